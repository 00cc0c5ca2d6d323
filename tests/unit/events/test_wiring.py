import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.wiring import SILENT, Source, contradiction, elsewhere, sources_of

TOLD = {
    "enable_kv_cache_events": True,
    "publisher": "zmq",
    "endpoint": "tcp://*:5557",
    "replay_endpoint": "tcp://*:5657",
    "buffer_steps": 10000,
    "hwm": 100000,
    "max_queue_size": 100000,
    "topic": "kv@engine-0@m",
}
OWN = Source(endpoint="tcp://*:5557", replay_endpoint="tcp://*:5657", topic="kv@engine-0@m")
EVENTS, REPLAY = "tcp://10.0.0.7:5557", "tcp://10.0.0.7:5657"
LATER = {name: TOLD[name] for name in ("endpoint", "replay_endpoint", "topic")}
"""As releases after 0.32 tell it, in vLLM's tests of its `serve/kv_events/api_router.py`."""


@pytest.mark.parametrize(
    "answer",
    [
        {"0": TOLD, "1": TOLD},
        {"sources": [{"data_parallel_rank": rank, **LATER} for rank in (1, 0)]},
        [{"data_parallel_rank": rank, **LATER} for rank in (0, 1)],
    ],
)
def test_every_shape_of_the_answer_names_the_publishers_by_rank(answer):
    found = sources_of(json.dumps(answer).encode())
    assert sorted(found) == [0, 1]
    assert all(
        (each.endpoint, each.topic, each.publishes) == (OWN.endpoint, OWN.topic, True) for each in found.values()
    )


@pytest.mark.parametrize("answer", [b"{}", b'{"sources":[]}', b"[]"])
def test_an_engine_without_publishers_names_none(answer):
    assert sources_of(answer) == {}


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda a: json.dumps(a).encode())
)
def test_what_is_no_such_answer_is_told_apart_and_never_raises(answer):
    assert sources_of(answer) in (None, {})


@pytest.mark.parametrize("source", [SILENT, Source(publisher="null", topic="kv@engine-0@m")])
def test_events_of_an_engine_that_publishes_none_are_not_its_own(source):
    assert "publishes no KV events" in contradiction(source, b"kv@engine-0@m")
    assert "publishes no KV events" in contradiction(source, None)


def test_batches_under_another_engines_topic_are_not_its_own():
    said = contradiction(OWN, b"kv@engine-1@m")
    assert "kv@engine-1@m" in said
    assert "kv@engine-0@m" in said


@pytest.mark.parametrize(
    ("source", "heard"), [(None, b"any"), (OWN, None), (OWN, b"kv@engine-0@m"), (Source(topic=None), b"any")]
)
def test_nothing_is_said_against_what_nothing_speaks_against(source, heard):
    assert contradiction(source, heard) is None


@pytest.mark.parametrize(
    ("events", "replay", "said"),
    [
        (EVENTS, REPLAY, None),
        (None, None, None),
        ("tcp://[fd00::7]:5557", "tcp://[fd00::7]:5657", None),
        ("tcp://10.0.0.7:5558", REPLAY, "its events at tcp://*:5557, the pod declares tcp://10.0.0.7:5558"),
        (EVENTS, "tcp://10.0.0.7:5558", "replays at tcp://*:5657"),
        ("ipc:///run/e", "ipc:///run/r", "its events at tcp://*:5557, the pod declares ipc:///run/e"),
        ("tcp://10.0.0.7:many", REPLAY, "the pod declares tcp://10.0.0.7:many"),
    ],
)
def test_another_port_than_the_engines_own_is_named(events, replay, said):
    found = elsewhere(OWN, events, replay)
    assert found is None if said is None else said in found


def test_an_engine_that_has_not_told_or_publishes_nothing_is_nowhere_else():
    assert elsewhere(None, EVENTS, REPLAY) is elsewhere(SILENT, EVENTS, REPLAY) is None
    assert elsewhere(Source(), EVENTS, REPLAY) is None

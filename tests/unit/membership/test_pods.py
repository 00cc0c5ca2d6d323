import json

import pytest
from engine_pods import engine_pod
from kvpool_router.membership.pods import members_of, workers_of
from kvpool_router.workers import Incarnation, WorkerId


def test_a_pod_is_one_worker_with_its_addresses_from_the_named_ports():
    (worker,) = workers_of(engine_pod(http_port=8100, restarts=3))
    assert worker.id == WorkerId("qwen-abc-0", 0)
    assert worker.incarnation == Incarnation("uid-1", 3)
    assert worker.url == "http://127.0.0.2:8100"
    assert (worker.events, worker.replay) == ("tcp://127.0.0.2:5557", "tcp://127.0.0.2:5657")
    assert worker.accepts_requests


def test_a_data_parallel_pod_is_a_worker_a_rank_behind_one_url_with_the_rank_added_to_both_ports():
    workers = workers_of(engine_pod(annotations={"kvpool.dev/data-parallel-size": "3"}))
    assert [worker.id.dp_rank for worker in workers] == [0, 1, 2]
    assert {worker.url for worker in workers} == {"http://127.0.0.2:8000"}
    assert [worker.events for worker in workers] == [f"tcp://127.0.0.2:{port}" for port in (5557, 5558, 5559)]
    assert [worker.replay for worker in workers] == [f"tcp://127.0.0.2:{port}" for port in (5657, 5658, 5659)]


def test_an_annotation_overrides_the_endpoints():
    told = json.dumps([{"events": "ipc:///run/a", "replay": "ipc:///run/b"}])
    (worker,) = workers_of(engine_pod(annotations={"kvpool.dev/kv-events-endpoints": told}))
    assert (worker.events, worker.replay) == ("ipc:///run/a", "ipc:///run/b")


def test_a_pod_without_event_ports_has_no_endpoints():
    (worker,) = workers_of(engine_pod(events_port=None, replay_port=None))
    assert (worker.events, worker.replay) == (None, None)


def test_an_ipv6_address_is_bracketed():
    (worker,) = workers_of(engine_pod(ip="fd00::7"))
    assert worker.url == "http://[fd00::7]:8000"


@pytest.mark.parametrize(
    "changes",
    [{"ready": False}, {"deleted": True}, {"annotations": {"kvpool.dev/draining": "2026-01-01T00:00:00Z"}}],
)
def test_a_pod_that_is_unready_draining_or_terminating_accepts_no_requests(changes):
    (worker,) = workers_of(engine_pod(**changes))
    assert not worker.accepts_requests


@pytest.mark.parametrize("changes", [{"ip": None}, {"phase": "Failed"}, {"phase": "Succeeded"}])
def test_a_pod_without_an_address_or_that_has_ended_is_no_worker(changes):
    assert workers_of(engine_pod(**changes)) == ()


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"kvpool.dev/data-parallel-size": "many"}, "must be a number from 1 to 1024, not 'many'"),
        ({"kvpool.dev/data-parallel-size": "0"}, "must be a number"),
        ({"kvpool.dev/kv-events-endpoints": "{"}, "must be a JSON list"),
        ({"kvpool.dev/kv-events-endpoints": "[]"}, "names 0 ranks, kvpool.dev/data-parallel-size says 1"),
    ],
)
def test_a_bad_annotation_is_named_with_its_pod(annotations, words):
    with pytest.raises(ValueError, match=words) as refused:
        workers_of(engine_pod(annotations=annotations))
    assert "pod qwen-abc-0" in str(refused.value)


def test_one_bad_pod_does_not_cost_the_others():
    members = members_of([engine_pod("b"), {"metadata": {"name": "bad"}}, "junk", engine_pod("a")])
    assert [worker.id.pod for worker in members.workers] == ["a", "b"]
    assert [reason.split(":")[0] for reason in members.left_out] == ["pod bad", "pod without a name"]

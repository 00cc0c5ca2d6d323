from dataclasses import replace

import pytest
from kvpool_api.wire import EventState
from kvpool_router.events.standing import Evidence, judge

WELL = Evidence(
    events="tcp://127.0.0.1:5557",
    miswired=None,
    connection_trouble=None,
    caught_up=True,
    replaying=False,
    replay_trouble=None,
    first=0,
    applied=9,
    unreadable=0,
    cleared=False,
    turned_over=160,
    cache_tokens=1600,
)


def test_a_whole_history_without_trouble_is_exact():
    assert judge(WELL)[0] is EventState.EXACT


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"events": None}, EventState.APPROXIMATE, "no kv-events port"),
        ({"miswired": "Another's.", "connection_trouble": "None."}, EventState.APPROXIMATE, "Another's."),
        ({"connection_trouble": "No connection."}, EventState.APPROXIMATE, "No connection."),
        ({"caught_up": False}, EventState.DEGRADED, "replay is under way"),
        ({"replaying": True}, EventState.DEGRADED, "applied up to batch 9"),
        ({"replaying": True, "applied": -1}, EventState.DEGRADED, "under way, nothing is applied yet."),
        ({"first": 5}, EventState.DEGRADED, "begins at batch 5"),
        ({"first": 5, "cache_tokens": None}, EventState.DEGRADED, "an unknown number"),
        ({"first": 5, "replay_trouble": "blocked"}, EventState.DEGRADED, "before batch 5 are unknown: blocked"),
        ({"applied": -1, "replay_trouble": "blocked"}, EventState.DEGRADED, "so far are unknown: blocked"),
        ({"unreadable": 2}, EventState.DEGRADED, "2 events could not be read"),
        ({"first": 5, "turned_over": 1600}, EventState.EXACT, "Every event"),
        ({"first": 5, "cleared": True}, EventState.EXACT, "Every event"),
        ({"replay_trouble": "blocked"}, EventState.EXACT, "Every event"),
        ({"applied": -1}, EventState.EXACT, "Every event"),
    ],
)
def test_each_lack_has_its_state_and_its_reason(changes, state, words):
    judged, reason = judge(replace(WELL, **changes))
    assert judged is state
    assert words in reason
    assert reason.endswith(".")

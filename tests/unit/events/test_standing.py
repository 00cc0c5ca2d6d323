from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.wire import EventState
from kvpool_router.events.standing import Evidence, Lack, judge

WELL = Evidence(
    events="tcp://127.0.0.1:5557",
    miswired=None,
    connection_trouble=None,
    caught_up=True,
    replaying=False,
    replay_trouble=None,
    first=0,
    applied=9,
    lack=Lack.NOTHING,
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
        ({"caught_up": False}, EventState.DEGRADED, "replay of earlier events is under way"),
        ({"replaying": True}, EventState.DEGRADED, "replay of earlier events is under way"),
        ({"first": 5}, EventState.DEGRADED, "before the engine's buffer begins are unknown"),
        ({"first": 5, "cache_tokens": None, "turned_over": 9**9}, EventState.DEGRADED, "buffer begins"),
        ({"first": 5, "replay_trouble": "blocked"}, EventState.DEGRADED, "began to listen are unknown: blocked"),
        ({"applied": -1, "replay_trouble": "blocked"}, EventState.DEGRADED, "began to listen are unknown: blocked"),
        ({"lack": Lack.STORED}, EventState.DEGRADED, "stored blocks could not be read"),
        ({"lack": Lack.UNKNOWN}, EventState.DEGRADED, "a kind that this router does not know"),
        ({"lack": Lack.ILLEGIBLE}, EventState.DEGRADED, "could not be read at all"),
        ({"lack": Lack.REMOVED}, EventState.DEGRADED, "removed blocks could not be read"),
        ({"lack": Lack.BATCHES, "first": 5}, EventState.DEGRADED, "lost for good"),
        ({"lack": Lack.BATCHES, "turned_over": 1600}, EventState.EXACT, "Every event"),
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


@given(st.builds(Evidence), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**9))
def test_the_sentence_does_not_change_while_figures_do(seen, first, applied, turned_over):
    """It becomes a condition's message, and a changed message is a write."""
    moved = replace(
        seen,
        first=first if seen.first else 0,
        applied=applied if seen.applied >= 0 else -1,
        turned_over=turned_over,
    )
    if judge(moved)[0] is judge(seen)[0]:
        assert judge(moved)[1] == judge(seen)[1]

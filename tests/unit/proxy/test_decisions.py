"""The ring keeps the newest decisions; the window sums five minutes of what engines reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.spec import Strategy
from kvpool_router.calibration import PRIOR
from kvpool_router.decisions import CLIENT_GONE, OK, WINDOW_S, DecisionLog, Record
from kvpool_router.load import Standing
from kvpool_router.requests.usage import Usage
from kvpool_router.score.protocol import Choice, Cost, WorkerView
from kvpool_router.workers import WorkerId


def record(name: str = "r", outcome: str = OK, usage: Usage | None = None, **fields: object) -> Record:
    return Record(name, 0.0, 0.0, "/v1/completions", 32, outcome=outcome, usage=usage, **fields)  # type: ignore[arg-type]


def test_the_newest_come_first_and_the_oldest_are_forgotten() -> None:
    log = DecisionLog(Strategy.CACHE_AWARE, kept=3)
    for number in range(5):
        log.begin(record(str(number)))
    assert [each.request_id for each in log.latest(10)] == ["4", "3", "2"]
    assert [each.request_id for each in log.latest(1)] == ["4"]
    assert log.latest(0) == []


def test_a_decision_tells_what_each_candidate_would_have_cost() -> None:
    log = DecisionLog(Strategy.CACHE_AWARE)
    worker = WorkerId("e0", 1)
    view = WorkerView(worker, Standing(0, 0, 0.0, 0, 0, 0, 0.0), PRIOR, 16, 32, 32, 32, 0.0)
    choice = Choice(0, "least cost", (Cost(0.5, 0.1, 0.2, 0.15, 0.05, 0.0),))
    log.begin(record(worker=worker, reason="least cost", pool=[view], choice=choice, ttft_s=0.25, attempts=1))
    (told,) = log.latest(1)
    (candidate,) = told.candidates
    assert (told.pod, told.dp_rank, told.ttft_ms, told.time) == ("e0", 1, 250.0, "1970-01-01T00:00:00.000+00:00")
    assert candidate.parts_s == {"queued": 0.1, "own": 0.2, "decode": 0.15, "imposed": 0.05, "load": 0.0}
    assert (candidate.cost_s, candidate.cached_tokens, candidate.predicted_tokens) == (0.5, 16, 32)


def test_a_request_that_was_never_placed_is_told_too() -> None:
    log = DecisionLog(Strategy.RANDOM)
    log.begin(record(outcome="ServiceUnavailableError"))
    (told,) = log.latest(1)
    assert told.pod is told.dp_rank is told.cached_tokens is told.ttft_ms is None
    assert told.candidates == []


def test_the_window_counts_both_sides_of_the_hit_rate_or_neither() -> None:
    log = DecisionLog(Strategy.CACHE_AWARE)
    log.finish(record(usage=Usage(100, 5, 48), predicted_cached_tokens=64, ttft_s=0.1), 0.0)
    log.finish(record(usage=Usage(100, 5, None), predicted_cached_tokens=64, ttft_s=0.3), 1.0)
    log.finish(record(), 2.0)
    facts = log.window(3.0)
    assert (facts.requests, facts.prompt_tokens, facts.cached_tokens, facts.predicted_tokens) == (3, 100, 48, 64)
    assert facts.ttft_p50_ms == facts.ttft_p90_ms == pytest.approx(300.0, rel=0.02)


def test_only_the_pools_own_faults_are_errors() -> None:
    log = DecisionLog(Strategy.CACHE_AWARE)
    for outcome in (OK, CLIENT_GONE, "400", "500", "engine broke off", "ServiceUnavailableError"):
        log.finish(record(outcome=outcome), 0.0)
    assert log.window(0.0).errors == 3


def test_what_is_older_than_five_minutes_leaves_the_sums() -> None:
    log = DecisionLog(Strategy.CACHE_AWARE)
    log.finish(record(usage=Usage(100, 5, 48), ttft_s=0.1), 0.0)
    log.finish(record(usage=Usage(10, 5, 0)), WINDOW_S)
    assert log.window(WINDOW_S).prompt_tokens == 110
    assert log.window(WINDOW_S + 1).prompt_tokens == 10
    empty = log.window(3 * WINDOW_S)
    assert (empty.requests, empty.prompt_tokens, empty.ttft_p50_ms) == (0, 0, None)


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=50))
def test_quantiles_are_within_two_percent(waits: list[float]) -> None:
    log = DecisionLog(Strategy.CACHE_AWARE)
    for second, wait in enumerate(waits):
        log.finish(record(ttft_s=wait), float(second))
    ordered = sorted(waits)
    for share, told in ((0.5, log.window(50.0).ttft_p50_ms), (0.9, log.window(50.0).ttft_p90_ms)):
        assert told == pytest.approx(ordered[int(share * len(waits))] * 1e3, rel=0.025, abs=0.006)

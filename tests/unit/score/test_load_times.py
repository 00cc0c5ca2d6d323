"""How long loading takes: from first tokens of requests that were alone at their engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.calibration import PRIOR, Calibration
from kvpool_router.load import Load
from kvpool_router.load_times import ASSUMED_TOKEN_S, LoadTimes
from kvpool_router.workers import WorkerId

A, B, NEW = WorkerId("a", 0), WorkerId("b", 0), WorkerId("new", 0)


def test_each_worker_is_believed_as_far_as_it_has_shown_and_a_new_one_like_the_pool() -> None:
    times = LoadTimes()
    assert times.token_s(A) == ASSUMED_TOKEN_S
    for _ in range(50):
        times.observe(A, 8000, 8000 * 2e-6)
        times.observe(B, 8000, 8000 * 10e-6)
    assert times.token_s(A) == pytest.approx(2e-6, rel=0.3)
    assert times.token_s(B) == pytest.approx(10e-6, rel=0.3)
    assert times.token_s(A) < times.token_s(NEW) < times.token_s(B)
    times.forget(A)
    assert times.token_s(A) == times.token_s(NEW)


@given(st.lists(st.tuples(st.integers(1, 200_000), st.floats(-10.0, 1e6))))
def test_no_time_however_wild_makes_a_load_free_of_cost_or_endless(seen: list[tuple[int, float]]) -> None:
    times = LoadTimes()
    for tokens, seconds in seen:
        times.observe(A, tokens, seconds)
    assert 0.0 < times.token_s(A) <= 100e-6


def loaded(load: Load, now: float, token_s: float, *, loaded_tokens: int = 8000, other: bool = False) -> None:
    """One request that loads all but 100 tokens of its prompt, alone or behind another."""
    if other:
        load.sent(A, 1000, 0, streams=True, now=now)
    prompt = loaded_tokens + 100
    ticket = load.sent(A, prompt, loaded_tokens, streams=True, now=now, loaded_tokens=loaded_tokens)
    first = now + loaded_tokens * token_s + PRIOR.overhead_s + PRIOR.prefill_s(100, loaded_tokens)
    load.first_token(ticket, first)
    load.done(ticket, first + 0.1, output_tokens=1)


def test_first_tokens_of_requests_that_loaded_teach_loading_and_nothing_of_prefill() -> None:
    load = Load(Calibration())
    for n in range(40):
        loaded(load, 10.0 * n, 9e-6)
    assert load.load_s(A, 1000) == pytest.approx(9e-3, rel=0.3)
    assert load.rates(A)[:3] == PRIOR[:3]


def test_who_waited_for_another_teaches_nothing_of_loading() -> None:
    load = Load(Calibration())
    loaded(load, 0.0, 90e-6, other=True)
    assert load.load_s(A, 1000) == 1000 * ASSUMED_TOKEN_S
    assert load.load_s(A, 0) == 0.0

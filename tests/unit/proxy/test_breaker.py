"""Circuits open after repeated failures, let one probe through a second later, and close on success."""

from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.breaker import FAILURES_TO_OPEN, PROBE_AFTER_S, Breaker
from kvpool_router.workers import WorkerId

ONE, OTHER = WorkerId("one", 0), WorkerId("other", 0)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(ONE, at)
    return breaker


def test_a_circuit_opens_for_its_own_worker_only() -> None:
    breaker = opened()
    assert not breaker.admits(ONE, 0.5)
    assert breaker.admits(OTHER, 0.5)
    assert breaker.is_open(ONE)
    assert not breaker.is_open(OTHER)


def test_one_probe_at_a_time_within_two_seconds() -> None:
    breaker = opened()
    assert PROBE_AFTER_S <= 2
    assert breaker.admits(ONE, PROBE_AFTER_S)
    breaker.sending(ONE, PROBE_AFTER_S)
    assert not breaker.admits(ONE, PROBE_AFTER_S)
    breaker.failed(ONE, PROBE_AFTER_S + 0.1)
    assert not breaker.admits(ONE, 2 * PROBE_AFTER_S)
    assert breaker.admits(ONE, 2 * PROBE_AFTER_S + 0.1)


def test_success_or_a_new_process_closes_it() -> None:
    for close in (Breaker.succeeded, Breaker.forget):
        breaker = opened()
        close(breaker, ONE)
        assert breaker.admits(ONE, 0.0)
        breaker.sending(ONE, 0.0)
        assert breaker.admits(ONE, 0.0)


@given(st.lists(st.sampled_from(["fail", "succeed"]), max_size=30))
def test_fewer_failures_in_a_row_than_the_limit_never_open_it(steps: list[str]) -> None:
    breaker, row = Breaker(), 0
    for step in steps:
        if step == "succeed":
            breaker.succeeded(ONE)
            row = 0
        elif row < FAILURES_TO_OPEN - 1:
            breaker.failed(ONE, 0.0)
            row += 1
        assert breaker.admits(ONE, 0.0)

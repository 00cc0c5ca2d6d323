"""Rates are learned from what the proxy sees: found in clean data, kept through bad data, shared by the pool."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.calibration import PRIOR, Answer, Burst, Calibration, Rates
from kvpool_router.load import Load
from kvpool_router.workers import WorkerId

ONE, OTHER = WorkerId("one", 0), WorkerId("other", 0)
# Fitted to public tables of H100: Llama-3.1-8B on two GPUs, Qwen3-32B on two (prefill c0, a, b; decode d0, d1, d2).
SMALL = Rates(2.35e-3, 12.4e-6, 397e-12, 4.0e-3, 7.7e-6, 20.83e-9)
LARGE = Rates(7.6e-3, 47.75e-6, 1595e-12, 13.59e-3, 26.3e-6, 42.36e-9)


def burst(rates: Rates, new: int, held: int, *, noise: float = 1.0) -> Burst:
    elapsed = (rates.overhead_s * (-(-new // 8192)) + rates.prefill_s(new, held)) * noise
    return Burst(elapsed, 1, new, new * (held + new / 2), 0.0, 0.0, False)


def taught(rates: Rates, count: int, *, noise: float = 0.0, seed: int = 0, wild: float = 0.0) -> Calibration:
    """A pool that has seen so many requests, some of them wildly off."""
    draw, calibration = random.Random(seed), Calibration()
    for _ in range(count):
        new, held = int(draw.lognormvariate(7.5, 1.2)) + 1, draw.randrange(0, 30_000)
        off = draw.choice([0.05, 20.0]) if draw.random() < wild else 1 + draw.uniform(-noise, noise)
        calibration.observe_burst(ONE, burst(rates, new, held, noise=off))
        running, context = draw.randrange(1, 200), draw.randrange(0, 500_000)
        gap = rates.step_s + rates.decode_load_s(running, context)
        calibration.observe_gap(ONE, gap * off, running, context)
    return calibration


@pytest.mark.parametrize("truth", [SMALL, LARGE])
@pytest.mark.parametrize(("noise", "wild", "within"), [(0.0, 0.0, 0.05), (0.2, 0.0, 0.1), (0.1, 0.05, 0.2)])
def test_rates_are_found_from_what_is_seen(truth: Rates, noise: float, wild: float, within: float) -> None:
    found = taught(truth, 600, noise=noise, wild=wild).rates(ONE)
    for new, held in ((200, 0), (1200, 6000), (7200, 0), (30_000, 10_000)):
        expected = truth.overhead_s + truth.prefill_s(new, held)
        assert found.overhead_s + found.prefill_s(new, held) == pytest.approx(expected, rel=within)
    step = truth.step_s + truth.decode_load_s(32, 200_000)
    assert found.step_s + found.decode_load_s(32, 200_000) == pytest.approx(step, rel=within)


def test_a_new_worker_starts_from_what_the_pool_has_learned() -> None:
    calibration = taught(SMALL, 300)
    assert calibration.rates(OTHER).token_s == pytest.approx(SMALL.token_s, rel=0.1)


def test_a_slower_worker_gets_a_factor_of_its_own() -> None:
    draw, calibration = random.Random(3), Calibration()
    for _ in range(600):
        new, held = draw.randrange(100, 8000), draw.randrange(0, 8000)
        calibration.observe_burst(ONE, burst(SMALL, new, held))
        calibration.observe_burst(OTHER, burst(SMALL, new, held, noise=2.0))
    slow, fast = calibration.rates(OTHER), calibration.rates(ONE)
    assert slow.prefill_s(4000, 0) / fast.prefill_s(4000, 0) == pytest.approx(2.0, rel=0.25)
    calibration.forget(OTHER)
    assert calibration.rates(OTHER).prefill_s(4000, 0) < slow.prefill_s(4000, 0)


def test_a_change_of_speed_is_followed() -> None:
    draw, calibration = random.Random(4), taught(LARGE, 600)
    for _ in range(1500):
        calibration.observe_burst(ONE, burst(SMALL, draw.randrange(100, 8000), draw.randrange(0, 8000)))
    assert calibration.rates(ONE).prefill_s(4000, 0) == pytest.approx(SMALL.prefill_s(4000, 0), rel=0.3)


def test_before_anything_is_seen_the_prior_holds() -> None:
    assert Calibration().rates(ONE) == PRIOR


@given(
    st.lists(
        st.tuples(
            st.floats(1e-6, 1e4), st.integers(0, 200_000), st.integers(0, 200_000), st.floats(0, 500), st.booleans()
        ),
        max_size=60,
    )
)
def test_no_history_makes_a_rate_negative_or_unreal(
    seen: list[tuple[float, int, int, float, bool]],
) -> None:
    calibration = Calibration()
    for elapsed, new, held, running, waited in seen:
        calibration.observe_burst(ONE, Burst(elapsed, 1, new, new * (held + new / 2), running, held, waited))
        calibration.observe_gap(ONE, elapsed, running, held)
    rates = calibration.rates(ONE)
    assert all(0.0 <= each < float("inf") for each in rates)
    assert rates.prefill_s(2000, 0) >= rates.prefill_s(1000, 500) >= 0.0


def test_what_took_no_time_teaches_nothing() -> None:
    calibration = Calibration()
    calibration.observe_burst(ONE, Burst(0.0, 1, 100, 100.0, 0.0, 0.0, False))
    calibration.observe_gap(ONE, 0.0, 1.0, 100.0)
    assert calibration.rates(ONE) == PRIOR


def test_the_books_teach_prefill_and_decode_from_streams_alone() -> None:
    draw, calibration = random.Random(5), Calibration()
    load, now = Load(calibration), 0.0
    for _ in range(400):
        size, held = draw.randrange(500, 20_000), draw.randrange(0, 500)
        ticket = load.sent(ONE, size, held, streams=True, now=now)
        now += SMALL.overhead_s * (-(-(size - held) // 8192)) + SMALL.prefill_s(size - held, held)
        load.first_token(ticket, now)
        now += 63 * (SMALL.step_s + SMALL.decode_load_s(1, size))
        load.done(ticket, now, output_tokens=64)
    found = calibration.rates(ONE)
    assert found.prefill_s(8000, 0) == pytest.approx(SMALL.prefill_s(8000, 0), rel=0.1)
    assert found.step_s + found.decode_load_s(1, 8000) == pytest.approx(4.0e-3 + 1.7e-4, rel=0.1)


def test_first_tokens_of_one_step_are_one_observation() -> None:
    calibration = Calibration()
    load, now = Load(calibration), 0.0
    for _ in range(200):
        tickets = [load.sent(ONE, 2000, 0, streams=True, now=now) for _ in range(4)]
        now += SMALL.overhead_s + 4 * SMALL.prefill_s(2000, 0)
        for ticket in tickets:
            load.first_token(ticket, now)
        for ticket in tickets:
            load.done(ticket, now)
        now += 1.0
    found = calibration.rates(ONE)
    expected = SMALL.overhead_s + 4 * SMALL.prefill_s(2000, 0)
    assert found.overhead_s + 4 * found.prefill_s(2000, 0) == pytest.approx(expected, rel=0.05)


def answer(elapsed_s: float, *, others_s: float = 0.0) -> Answer:
    return Answer(elapsed_s, 1000, 500_000.0, others_s, 31, 1.0, 1000.0)


def test_whole_answers_teach_nothing_while_there_are_streams() -> None:
    calibration = taught(SMALL, 100)
    before = calibration.rates(ONE)
    for _ in range(64):
        calibration.observe_answer(ONE, answer(50.0))
    assert calibration.rates(ONE) == before
    calibration.observe_answer(ONE, answer(50.0))
    assert calibration.rates(ONE) != before


def test_an_answer_that_mostly_waited_or_took_no_time_teaches_nothing() -> None:
    calibration = Calibration()
    calibration.observe_answer(ONE, answer(50.0, others_s=40.0))
    calibration.observe_answer(ONE, answer(0.0))
    assert calibration.rates(ONE) == PRIOR


def test_an_answer_sooner_than_its_prefill_was_expected_teaches_too() -> None:
    calibration = Calibration()
    load = Load(calibration)
    for second in range(50):
        ticket = load.sent(ONE, 4000, 0, streams=False, now=second)
        load.done(ticket, second + 0.05, output_tokens=1)
    assert calibration.rates(ONE).prefill_s(4000, 0) < 0.5 * PRIOR.prefill_s(4000, 0)

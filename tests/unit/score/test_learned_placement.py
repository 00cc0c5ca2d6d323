"""Placement and calibration in closed loop: chance starves nobody, and what is slow gets little."""

from collections.abc import Callable

import pytest
from closed_loop import ClosedLoop, steady
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.calibration import PRIOR, Calibration, Rates
from kvpool_router.workers import WorkerId

GPU = Rates(7.6e-3, 47.75e-6, 1595e-12, 13.59e-3, 26.3e-6, 42.36e-9)
"""Fitted to public tables of Qwen3-32B on two H100."""
CPU = Rates(20e-3, 400e-6, 1e-9, 30e-3, 1e-3, 40e-9)
"""Far slower than the prior, as a small model on a CPU."""
SEEDS = st.integers(0, 2**32)
NOISE = st.floats(0.05, 0.1)
TRUTHS = st.sampled_from([GPU, CPU])
QUIET_PER_S = 0.02

few = settings(max_examples=12, deadline=None)


def quiet(truth: Rates, noise: float, seed: int, *slowness: float, first: tuple[float, ...] = ()) -> ClosedLoop:
    """Requests so far apart that nothing but the calibration tells idle engines apart."""
    return ClosedLoop([steady(each) for each in slowness], truth, QUIET_PER_S, noise, seed, first_slowness=first)


@few
@given(TRUTHS, NOISE, SEEDS)
def test_equal_engines_share_cold_prompts(truth: Rates, noise: float, seed: int) -> None:
    assert 0.35 <= quiet(truth, noise, seed, 1, 1).serve(200).share(0) <= 0.65


@few
@given(TRUTHS, NOISE, SEEDS)
def test_equal_engines_share_for_good(truth: Rates, noise: float, seed: int) -> None:
    assert 0.35 <= quiet(truth, noise, seed, 1, 1).serve(600).share(0, since=400) <= 0.65


@few
@given(TRUTHS, NOISE, SEEDS, st.sampled_from([(5.0, 1.0), (1.0, 5.0), (5.0, 5.0), (100.0, 1.0)]))
def test_an_engine_that_warms_up_is_not_shunned(
    truth: Rates, noise: float, seed: int, first: tuple[float, float]
) -> None:
    assert 0.35 <= quiet(truth, noise, seed, 1, 1, first=first).serve(200).share(0) <= 0.65


@few
@given(TRUTHS, NOISE, SEEDS)
def test_an_engine_slower_by_less_than_the_noise_gets_its_share(truth: Rates, noise: float, seed: int) -> None:
    assert quiet(truth, noise, seed, 1, 1.03).serve(400).share(1, since=100) >= 0.25


@few
@given(TRUTHS, NOISE, SEEDS, st.sampled_from([2.0, 4.0]))
def test_an_engine_of_half_the_speed_gets_few_but_is_not_forgotten(
    truth: Rates, noise: float, seed: int, slowness: float
) -> None:
    loop = quiet(truth, noise, seed, 1, slowness).serve(600)
    assert loop.share(1) <= 0.15
    assert 0.0 < loop.share(1, since=200) <= 0.12


@few
@given(TRUTHS, NOISE, SEEDS)
def test_an_engine_that_becomes_slow_is_found_out(truth: Rates, noise: float, seed: int) -> None:
    turns: Callable[[int], float] = lambda n: 1.0 if n < 200 else 2.0  # noqa: E731
    loop = ClosedLoop([steady(1), turns], truth, QUIET_PER_S, noise, seed).serve(400)
    assert loop.share(1, since=200) <= 0.25
    assert loop.share(1, since=300) <= 0.15


@few
@given(TRUTHS, NOISE, SEEDS)
def test_an_engine_that_recovers_is_found_again_within_100_requests(truth: Rates, noise: float, seed: int) -> None:
    recovers: Callable[[int], float] = lambda n: 2.0 if n < 300 else 1.0  # noqa: E731
    loop = ClosedLoop([steady(1), recovers], truth, QUIET_PER_S, noise, seed).serve(500)
    assert 0.35 <= loop.share(1, since=400) <= 0.65


@pytest.mark.parametrize("size", [4, 8])
def test_no_engine_of_a_larger_pool_is_left_out(size: int) -> None:
    loop = quiet(CPU, 0.08, 1, *[1.0] * size).serve(100 * size)
    assert all(0.5 <= loop.share(each) * size <= 1.5 for each in range(size))


def test_what_a_worker_showed_fades_while_others_are_seen() -> None:
    slow, fast = WorkerId("slow", 0), WorkerId("fast", 0)
    calibration = Calibration()
    gap = PRIOR.step_s + PRIOR.decode_load_s(1, 1000)
    for _ in range(100):
        calibration.observe_gap(slow, 2 * gap, 1.0, 1000.0)
        calibration.observe_gap(fast, gap, 1.0, 1000.0)
    assert calibration.rates(slow).step_s > 1.5 * calibration.rates(fast).step_s
    for _ in range(400):
        calibration.observe_gap(fast, gap, 1.0, 1000.0)
    assert calibration.rates(slow) == pytest.approx(calibration.rates(fast), rel=0.001)


@few
@given(TRUTHS, NOISE, SEEDS)
def test_engines_that_stream_nothing_share_too_and_become_known(truth: Rates, noise: float, seed: int) -> None:
    loop = ClosedLoop([steady(1), steady(1)], truth, QUIET_PER_S, noise, seed, streams=False).serve(400)
    assert 0.35 <= loop.share(0, since=200) <= 0.65
    found = loop.load.rates(loop.workers[0])
    seconds = [
        each.overhead_s + each.prefill_s(2000, 0) + 32 * (each.step_s + each.decode_load_s(1, 2000))
        for each in (found, truth)
    ]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.2)


def test_a_busy_pool_that_streams_nothing_learns_prefill_and_decode_apart() -> None:
    loop = ClosedLoop([steady(1), steady(1)], GPU, 10.0, 0.08, 1, streams=False).serve(1500)
    found = loop.load.rates(loop.workers[0])
    assert found.prefill_s(2000, 0) == pytest.approx(GPU.prefill_s(2000, 0), rel=0.25)
    assert found.step_s + found.decode_load_s(2, 4000) == pytest.approx(
        GPU.step_s + GPU.decode_load_s(2, 4000), rel=0.25
    )

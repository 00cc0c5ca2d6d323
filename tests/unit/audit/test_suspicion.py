"""A wrong map is found soon, a true one is left alone, and nothing flaps."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.wire import MapTrust as Trust
from kvpool_router.audit.comparison import Evidence
from kvpool_router.audit.suspicion import (
    AGREEMENTS,
    FALSE_CREDIT,
    FIRST_PAUSE_S,
    FORGIVING_AGREEMENTS,
    LIMIT,
    LONGEST_PAUSE_S,
    UNKNOWN_HOLDING,
    UNSUSPECTED,
    at,
    weighed,
)

AGAINST = (Evidence.CREDIT_FALSE, Evidence.HOLDING_UNKNOWN)
FOR = {Evidence.CREDIT_FALSE: Evidence.CREDIT_HELD, Evidence.HOLDING_UNKNOWN: Evidence.HOLDING_KNOWN}


def told(opinion, *found, now=0.0):
    for each in found:
        opinion = weighed(opinion, [each], now)
    return opinion


def fall(opinion, kind=Evidence.CREDIT_FALSE, now=0.0):
    """The opinion after as many contradictions as it takes, and how many that were."""
    before = opinion
    for count in range(1, 100):
        opinion = told(opinion, kind, now=now)
        if opinion.falls > before.falls:
            return opinion, count
    raise AssertionError("it is trusted whatever is said")


@pytest.mark.parametrize("chart", [FALSE_CREDIT, UNKNOWN_HOLDING])
def test_the_exponential_of_a_chart_is_no_larger_on_average_for_an_honest_map(chart):
    from math import exp

    for share in (chart.honest, chart.honest / 2, 0.0):
        assert share * exp(chart.against) + (1 - share) * exp(chart.supporting) <= 1 + 1e-12


@pytest.mark.parametrize("kind", AGAINST)
def test_answers_that_all_contradict_are_enough_within_two_dozen(kind):
    opinion, count = fall(UNSUSPECTED, kind)
    assert opinion.trust is Trust.DISTRUSTED
    assert count < 24
    assert str(count) in opinion.reason


@pytest.mark.parametrize("kind", AGAINST)
@pytest.mark.parametrize("seed", range(3))
def test_a_map_as_wrong_as_the_chart_expects_is_found_and_an_honest_one_is_not(kind, seed):
    rng = random.Random(seed)
    chart = FALSE_CREDIT if kind is Evidence.CREDIT_FALSE else UNKNOWN_HOLDING
    opinion, honest = UNSUSPECTED, UNSUSPECTED
    for _ in range(20_000):
        honest = told(honest, kind if rng.random() < chart.honest else FOR[kind])
    assert honest.falls == 0
    for _ in range(200):
        opinion = told(opinion, kind if rng.random() < chart.wrong else FOR[kind])
    assert opinion.falls > 0


@given(st.lists(st.sampled_from(list(Evidence)), max_size=200))
def test_contradictions_count_only_above_zero_and_distrust_comes_only_at_the_limit(found):
    opinion = UNSUSPECTED
    for each in found:
        after = weighed(opinion, [each], 1.0)
        assert min(after.false_credit, after.unknown_holding) >= 0
        assert max(after.false_credit, after.unknown_holding) < LIMIT
        if after.falls > opinion.falls:
            assert each in AGAINST
            assert after.trust is Trust.DISTRUSTED
            assert after.until == 1.0 + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**opinion.falls)
        opinion = after


def test_a_pause_ends_in_a_trial_only_when_it_is_over_and_the_map_is_read_anew():
    opinion, _ = fall(UNSUSPECTED)
    assert at(opinion, opinion.until - 0.1, reread=True) is opinion
    assert at(opinion, opinion.until, reread=False) is opinion
    assert at(opinion, opinion.until, reread=True).trust is Trust.ON_TRIAL
    assert at(UNSUSPECTED, 1e9, reread=True) is UNSUSPECTED


def test_a_trial_ends_well_when_answers_agree_and_the_fall_is_remembered():
    fallen, _ = fall(UNSUSPECTED)
    trial = at(fallen, fallen.until, reread=True)
    agreeing = told(trial, *[Evidence.CREDIT_HELD] * (AGREEMENTS - 1))
    assert agreeing.trust is Trust.ON_TRIAL
    well = told(agreeing, Evidence.CREDIT_HELD)
    assert (well.trust, well.reason, well.falls) == (Trust.TRUSTED, "", 1)


@pytest.mark.parametrize("kind", AGAINST)
def test_on_trial_half_the_evidence_is_enough_and_the_pause_is_twice_as_long(kind):
    fallen, needed = fall(UNSUSPECTED, kind)
    trial = at(fallen, fallen.until, reread=True)
    again, sooner = fall(trial, kind, now=100.0)
    assert sooner <= needed // 2 + 1
    assert again.until - 100.0 == 2 * FIRST_PAUSE_S


def test_a_map_that_stays_wrong_is_tried_ever_more_seldom():
    opinion, now, pauses = UNSUSPECTED, 0.0, []
    for _ in range(12):
        opinion, _ = fall(opinion, now=now)
        pauses.append(opinion.until - now)
        now = opinion.until
        opinion = at(opinion, now, reread=True)
    assert pauses[:4] == [FIRST_PAUSE_S * 2**each for each in range(4)]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_evidence_while_distrusted_prolongs_the_pause():
    fallen, _ = fall(UNSUSPECTED)
    again, _ = fall(fallen, now=5.0)
    assert again.until == 5.0 + 2 * FIRST_PAUSE_S


def test_a_long_time_of_truth_forgives_a_fall():
    fallen, _ = fall(UNSUSPECTED)
    trusted = told(at(fallen, fallen.until, reread=True), *[Evidence.CREDIT_HELD] * AGREEMENTS)
    assert told(trusted, *[Evidence.HOLDING_KNOWN] * FORGIVING_AGREEMENTS).falls == 0


def test_a_long_time_of_truth_forgives_one_fall_of_several():
    opinion, _ = fall(UNSUSPECTED)
    opinion, _ = fall(at(opinion, opinion.until, reread=True), now=opinion.until)
    trusted = told(at(opinion, opinion.until, reread=True), *[Evidence.CREDIT_HELD] * AGREEMENTS)
    assert (trusted.trust, trusted.falls) == (Trust.TRUSTED, 2)
    assert told(trusted, *[Evidence.HOLDING_KNOWN] * FORGIVING_AGREEMENTS).falls == 1

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st
from kvpool_cli.bench.workload import SharedPrefix, Workload, arrival_times, shared_prefix

PROFILE = SharedPrefix(3, 2, 600, 120, 8, rate_per_s=20, seconds=10)


@given(st.integers())
def test_a_seed_gives_the_same_load_again(seed):
    assert shared_prefix(PROFILE, seed) == shared_prefix(PROFILE, seed)


@given(st.integers())
def test_prompts_of_a_group_share_their_first_segment_and_nothing_else(seed):
    prompts = {planned.segments for planned in shared_prefix(PROFILE, seed).requests}
    for one, other in itertools.combinations(prompts, 2):
        assert one[1] != other[1]
        assert (one[0] == other[0]) == (one[1].key.split(" prompt ")[0] == other[1].key.split(" prompt ")[0])


def test_prompts_are_cycled_in_one_shuffled_order():
    order = [planned.segments for planned in shared_prefix(PROFILE, 1).requests]
    assert len(set(order)) == 6
    assert order[:6] == order[6:12] != sorted(order[:6])


@given(st.sampled_from(("poisson", "even")), st.floats(0.5, 50), st.floats(1, 20), st.integers())
def test_arrivals_ascend_within_the_time_asked_for(arrivals, rate, seconds, seed):
    times = list(arrival_times(arrivals, rate, seconds, random.Random(seed)))
    assert times == sorted(times)
    assert all(0 <= at < seconds for at in times)


def test_even_arrivals_stand_one_over_rate_apart():
    assert list(arrival_times("even", 4, 1, random.Random(0))) == [0, 0.25, 0.5, 0.75]


def test_a_request_knows_its_prompt_tokens_and_a_workload_its_end():
    workload = shared_prefix(PROFILE, 1)
    assert workload.requests[0].prompt_tokens == 720
    assert workload.last_arrival_s == workload.requests[-1].arrival_s
    assert Workload((), "nothing").last_arrival_s == 0

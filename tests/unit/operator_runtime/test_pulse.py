"""When the operator counts as dead."""

from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.runtime.pulse import Pulse

QWEN = Ref(seam.POOL, "default", "qwen")
PODS = "/api/v1/pods"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def a_pulse(clock):
    return Pulse([PODS, "/api/v1/services"], clock=clock, watch_limit_s=100, round_limit_s=200)


def test_a_watch_that_never_opens_and_one_that_does_not_open_again_are_told():
    clock = Clock()
    pulse = a_pulse(clock)
    clock.now += 90
    pulse.watch_opened(PODS)
    assert list(pulse.complaints()) == []
    clock.now += 90
    assert list(pulse.complaints()) == ["the watch of /api/v1/services was last opened 180 s ago"]


def test_a_pool_without_a_round_is_told_until_it_has_one_or_is_gone():
    clock = Clock()
    pulse = a_pulse(clock)
    pulse.pool_begins(QWEN)
    clock.now += 250
    for path in (PODS, "/api/v1/services"):
        pulse.watch_opened(path)
    assert list(pulse.complaints()) == ["pool default/qwen had its last round 250 s ago"]
    assert pulse.longest_unvisited_s() == 250
    pulse.pool_visited(QWEN)
    assert list(pulse.complaints()) == []
    clock.now += 250
    pulse.pool_ends(QWEN)
    assert not [each for each in pulse.complaints() if "pool" in each]
    assert (pulse.pools(), pulse.longest_unvisited_s()) == (0, 0)


@given(st.lists(st.floats(0, 99), max_size=30))
def test_an_operator_whose_watches_open_in_time_lives_though_it_has_no_pool(waits):
    clock = Clock()
    pulse = a_pulse(clock)
    for wait in waits:
        clock.now += wait
        assert list(pulse.complaints()) == []
        pulse.watch_opened(PODS)
        pulse.watch_opened("/api/v1/services")

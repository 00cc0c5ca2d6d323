"""When rounds may begin."""

from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.turns import Turns


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_so_many_begin_at_once_and_the_others_one_after_the_other():
    turns = Turns(Clock(), at_once=4, per_s=2.0)
    assert [turns.wait_s() for _ in range(7)] == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.5]


def test_whoever_comes_alone_never_waits():
    clock = Clock()
    turns = Turns(clock, at_once=1, per_s=2.0)
    for _ in range(20):
        assert turns.wait_s() == 0.0
        clock.now += 0.5


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.integers(1, 8))
def test_no_second_sees_more_than_what_is_allowed_and_nobody_is_overtaken(pauses, at_once):
    clock, begun = Clock(), []
    turns = Turns(clock, at_once=at_once, per_s=5.0)
    for pause in pauses:
        clock.now += pause
        begun.append(clock.now + turns.wait_s())
    assert begun == sorted(begun)
    for at in begun:
        assert sum(at <= each < at + 0.999 for each in begun) <= at_once + 5

"""What the cluster refuses to make is asked for ever more seldom, until something is other than it was."""

from dataclasses import replace

import pytest
from kvpool_operator.plan.actions import CreateEngine, DeleteEngine, Done, because
from kvpool_operator.refusals import Refusals
from pool_world import T0, World, pool

WHY = because("Created", "0 of 3 exist")
FIRST = CreateEngine("qwen-x-0", {}, WHY)
SECOND = CreateEngine("qwen-x-1", {}, WHY)
OVER = Done(FIRST, "exceeded quota: few", goes_for_all=True)


@pytest.fixture
def refusals():
    return Refusals(15.0, 300.0)


def seen(generation=1, engines=0):
    world = World(pool(3, generation=generation))
    for slot in range(engines):
        world.apply((CreateEngine(f"e{slot}", {"metadata": {"name": f"e{slot}"}}, WHY),))
    return world.observed()


def asked(refusals, world, now):
    """Whether a round at that time asks the cluster, which refuses."""
    actions, held = refusals.sift([FIRST, SECOND], world, now)
    if held:
        assert (actions, held) == ([], (OVER,))
        return False
    assert actions == [FIRST, SECOND]
    refusals.note([OVER], world, now)
    return True


def test_each_wait_is_twice_the_last_up_to_some_minutes(refusals):
    times = [second for second in range(1200) if asked(refusals, seen(), T0 + second)]
    assert times == [0, 15, 45, 105, 225, 465, 765, 1065]


def test_rounds_in_between_tell_what_was_refused_and_ask_nothing(refusals):
    assert asked(refusals, seen(), T0)
    assert refusals.again_at == T0 + 15
    assert not asked(refusals, seen(), T0 + 14.9)
    assert refusals.again_at == T0 + 15


@pytest.mark.parametrize("other", [seen(generation=2), seen(engines=1)])
def test_another_spec_and_other_engines_are_asked_for_at_once_and_begin_anew(refusals, other):
    for later in (0, 15, 45):
        assert asked(refusals, seen(), T0 + later)
    assert asked(refusals, other, T0 + 46)
    assert not asked(refusals, other, T0 + 60)
    assert asked(refusals, other, T0 + 61)


def test_an_engine_that_has_ended_makes_room(refusals):
    world = seen(engines=1)
    assert asked(refusals, world, T0)
    ended = replace(world, engines=(replace(world.engines[0], failed_at=T0),))
    assert asked(refusals, ended, T0 + 1)


def test_only_new_engines_wait(refusals):
    assert asked(refusals, seen(), T0)
    leaving = DeleteEngine("qwen-x-2", "u", WHY)
    assert refusals.sift([leaving, FIRST], seen(), T0 + 1) == ([leaving], (OVER,))
    assert refusals.sift([leaving], seen(), T0 + 1) == ([leaving], ())


def test_what_one_name_alone_meets_holds_nothing(refusals):
    refusals.note([Done(FIRST, "it is not this pool's")], seen(), T0)
    assert asked(refusals, seen(), T0 + 1)

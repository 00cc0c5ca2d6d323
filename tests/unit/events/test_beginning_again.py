"""A map that is not believed is read anew, or goes on without what was before."""

from event_publisher import stored
from event_world import ENGINE, engine
from eventually import eventually
from kvpool_api.wire import EventState


async def test_beginning_again_as_a_whole_forgets_what_was_put_in_and_reads_what_the_engine_has(world, publisher):
    publisher.publish([stored(0)], [stored(1)])
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    world.map.drop(ENGINE)
    world.plane.begin_again(ENGINE, whole=True)
    assert world.cached(0) == 0
    await eventually(lambda: (world.cached(0), world.cached(1)) == (16, 16))
    assert world.state is EventState.EXACT
    publisher.publish([stored(2)])
    await eventually(lambda: world.cached(2))


async def test_beginning_again_without_the_history_knows_only_what_is_published_from_there(world, publisher):
    publisher.publish([stored(0)], [stored(1)])
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    world.plane.begin_again(ENGINE, whole=False)
    await eventually(lambda: world.synced)
    publisher.publish([stored(2)])
    await eventually(lambda: world.cached(2))
    assert (world.cached(0), world.cached(1), world.map.blocks(ENGINE)) == (0, 0, 1)
    assert world.state is EventState.DEGRADED
    assert "unknown" in world.reason


async def test_one_that_is_not_followed_is_left_alone(world):
    world.plane.begin_again(ENGINE, whole=True)
    assert world.plane.standing(ENGINE) is None

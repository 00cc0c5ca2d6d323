"""A map taken from a sibling goes on by replay from its mark, or is dropped."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import zmq.asyncio
from event_publisher import EventPublisher, stored, tokens_of
from event_world import ENGINE, TEXT, EventWorld, engine
from eventually import eventually
from kvpool_api.wire import EventState
from kvpool_router.events.marks import Mark


@pytest.fixture
async def pair() -> AsyncIterator[tuple[EventWorld, EventWorld]]:
    """Two routers: the second one takes over from the first."""
    context = zmq.asyncio.Context()
    first, second = EventWorld(context), EventWorld(context)
    yield first, second
    await asyncio.gather(first.plane.close(), second.plane.close())
    context.destroy(linger=0)


@pytest.fixture
def publisher() -> Iterator[EventPublisher]:
    publisher = EventPublisher()
    yield publisher
    publisher.close()


async def followed(world: EventWorld, publisher: EventPublisher) -> dict[object, Mark]:
    """The marks of a world that has applied all that is published, over the wire and back."""
    world.follow(engine(publisher))
    await eventually(lambda: world.synced and world.last == publisher.sequence - 1)
    told = msgspec.msgpack.encode([mark for _, mark in world.plane.marks().items()])
    (mark,) = msgspec.msgpack.decode(told, type=list[Mark])
    return {ENGINE: mark}


async def test_a_map_goes_on_from_its_mark_although_the_engine_no_longer_has_what_was_before(pair):
    first, second = pair
    small = EventPublisher(buffer_batches=3)
    try:
        small.publish([stored(0)], [stored(1)])
        first.follow(engine(small))
        await eventually(lambda: first.last == 1)
        small.publish([stored(2)], [stored(3)])
        marks = await followed(first, small)
        for block in range(4):
            second.put(stored(block))
        small.publish([stored(4)], [stored(5)])
        second.plane.adopt(marks)
        second.follow(engine(small))
        assert second.cached(0) == 0, "credit before the engine has confirmed the mark"
        await eventually(lambda: second.state is EventState.EXACT)
        assert [second.cached(block) for block in range(6)] == [16] * 6
        assert second.map.blocks(ENGINE) == 6
    finally:
        small.close()


async def test_the_map_of_an_engine_that_has_restarted_meanwhile_is_dropped(pair, publisher):
    first, second = pair
    publisher.publish([stored(0)], [stored(1)])
    marks = await followed(first, publisher)
    second.put(stored(0), stored(1))
    second.plane.adopt(marks)
    publisher.renumber()
    publisher.publish([stored(7)], [stored(8)])
    second.follow(engine(publisher))
    await eventually(lambda: second.state is EventState.EXACT)
    assert [second.cached(block) for block in (0, 1, 7, 8)] == [0, 0, 16, 16]


@pytest.mark.parametrize("change", [{"pod_uid": "uid-2"}, {"restart_count": 1}, {"events": None}])
async def test_the_map_of_another_process_than_membership_tells_is_dropped_at_once(pair, publisher, change):
    first, second = pair
    publisher.publish([stored(0)])
    marks = await followed(first, publisher)
    second.put(stored(0))
    second.plane.adopt(marks)
    second.follow(engine(publisher, **change))
    assert second.map.blocks(ENGINE) == 0


async def test_the_map_of_a_worker_that_nobody_knows_is_dropped(pair, publisher):
    first, second = pair
    publisher.publish([stored(0)])
    marks = await followed(first, publisher)
    second.put(stored(0))
    second.plane.adopt(marks)
    second.follow()
    assert second.map.blocks(ENGINE) == 0


async def test_an_adopted_map_gives_no_credit_while_its_engine_cannot_be_reached_and_predictions_do(pair, publisher):
    first, second = pair
    publisher.publish([stored(0)])
    marks = await followed(first, publisher)
    second.put(stored(0))
    second.plane.adopt(marks)
    publisher.close()
    second.follow(engine(publisher))
    await eventually(lambda: second.predicted(3) or second.map.sent(ENGINE, tokens_of(3), TEXT, now=0.0))
    assert (second.map.blocks(ENGINE), second.cached(0)) == (1, 0)


async def test_there_is_no_mark_before_a_batch_is_applied_nor_amid_one(pair, publisher):
    world, _ = pair
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    assert world.plane.marks() == {}
    publisher.publish([stored(block, blocks=256) for block in range(40)])
    amid: list[object] = []
    while world.map.blocks(ENGINE) < 40 * 256:
        amid += [world.plane.marks()] if world.map.blocks(ENGINE) else []
        await asyncio.sleep(0)
    assert len(amid) >= 2
    assert not any(amid)
    await eventually(lambda: world.last == 0)
    assert ENGINE in world.plane.marks()


async def test_a_history_that_begins_late_does_so_in_the_next_map_too(pair):
    first, second = pair
    publisher = EventPublisher(buffer_batches=1)
    try:
        publisher.publish([stored(0)], [stored(1)])
        marks = await followed(first, publisher)
        second.put(stored(1))
        second.plane.adopt(marks)
        second.follow(engine(publisher))
        await eventually(lambda: second.synced)
        assert (first.state, second.state) == (EventState.DEGRADED, EventState.DEGRADED)
        assert first.reason == second.reason
    finally:
        publisher.close()

from collections.abc import AsyncIterator, Iterator

import pytest
import zmq.asyncio
from event_publisher import EventPublisher
from event_world import EventWorld


@pytest.fixture
async def world() -> AsyncIterator[EventWorld]:
    context = zmq.asyncio.Context()
    world = EventWorld(context)
    yield world
    await world.plane.close()
    context.destroy(linger=0)


@pytest.fixture
def publisher() -> Iterator[EventPublisher]:
    publisher = EventPublisher()
    yield publisher
    publisher.close()

import asyncio

import pytest
import zmq
import zmq.asyncio
from event_publisher import END, EventPublisher, stored
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.feed import ReplayUnavailable
from kvpool_router.events.replay import frame_of, replayed
from kvpool_router.events.sequence import Frame
from quiet_ports import free_port

SEVEN = (7).to_bytes(8, "big")


@pytest.fixture
def context():
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


@pytest.mark.parametrize(
    "parts", [[b"topic", SEVEN, b"x"], [b"", b"topic", SEVEN, b"x"], [b"", SEVEN, b"x"], [SEVEN, b"x"]]
)
def test_a_batch_is_found_in_the_messages_of_every_release(parts):
    assert frame_of(parts) == Frame(7, b"x")


@pytest.mark.parametrize("parts", [[], [b"x"], [b"topic", b"seven", b"x"], [SEVEN]])
def test_a_message_without_a_number_is_no_batch(parts):
    assert frame_of(parts) is None


@given(st.lists(st.binary(max_size=12) | st.sampled_from([SEVEN, END, b""]), max_size=6))
def test_whatever_parts_a_message_has_it_is_a_batch_or_none(parts):
    frame = frame_of(parts)
    assert frame is None or (frame.payload == parts[-1] and -(1 << 63) <= frame.sequence < 1 << 63)


def test_the_end_mark_is_the_number_minus_one():
    assert frame_of([b"", b"", END, b""]) == Frame(-1, b"")


async def test_a_replay_gives_the_batches_from_the_asked_one_to_the_last(context):
    publisher = EventPublisher()
    try:
        publisher.publish(*([stored(each)] for each in range(5)))
        frames = [frame.sequence async for frame in replayed(context, publisher.replay, 2, 5.0)]
        assert frames == [2, 3, 4]
        assert [frame async for frame in replayed(context, publisher.replay, 5, 5.0)] == []
    finally:
        publisher.close()


async def test_messages_that_are_no_batches_are_passed_over(context):
    with context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        answer = replayed(context, f"tcp://127.0.0.1:{port}", 0, 5.0)
        first = answer.__anext__()

        reading = asyncio.ensure_future(first)
        client, *_ = await router.recv_multipart()
        await router.send_multipart([client, b"", b"noise"])
        await router.send_multipart([client, b"", SEVEN, b"x"])
        assert await reading == Frame(7, b"x")
        await answer.aclose()


async def test_silence_and_a_bad_address_make_a_replay_unavailable_with_the_address_named(context):
    with context.socket(zmq.ROUTER) as router:
        address = f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
        with pytest.raises(ReplayUnavailable, match=f"{address} gave no answer within 0.05 s"):
            [frame async for frame in replayed(context, address, 0, 0.05)]
    with pytest.raises(ReplayUnavailable, match="cannot be asked"):
        [frame async for frame in replayed(context, "smoke://signal", 0, 0.05)]


async def test_an_engine_that_cannot_be_reached_has_not_been_asked(context):
    """A question left behind would be answered to nobody once the engine is back."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ReplayUnavailable, match="cannot be reached") as trouble:
        [frame async for frame in replayed(context, address, 0, 0.05)]
    assert trouble.value.unheard

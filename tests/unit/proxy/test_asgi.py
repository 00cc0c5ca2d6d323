"""A block ends when its client leaves, and only then."""

import asyncio

import pytest
from kvpool_router.asgi import CancelledWhenGone, ClientGone, Message
from kvpool_router.requests.body import read_body
from kvpool_router.requests.refusal import Refusal


def client(*messages: Message, stays: bool = True):  # type: ignore[no-untyped-def]
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        if stays:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


async def test_a_block_whose_client_leaves_is_cancelled_where_it_stands() -> None:
    with pytest.raises(ClientGone):
        async with CancelledWhenGone(client({"type": "http.request"}, stays=False)):
            await asyncio.Event().wait()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_first_is_left_alone() -> None:
    async with CancelledWhenGone(client(stays=False)):
        pass
    async with CancelledWhenGone(client()):
        await asyncio.sleep(0.02)


async def test_cancellation_from_elsewhere_is_not_taken_for_the_client() -> None:
    async def block() -> None:
        async with CancelledWhenGone(client()):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_passes() -> None:
    with pytest.raises(KeyError):
        async with CancelledWhenGone(client()):
            raise KeyError("own")


async def test_a_body_in_pieces_is_joined() -> None:
    receive = client({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"})
    assert await read_body(receive, [(b"host", b"x")], 3) == b"abc"


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (2, 2, 1)])
async def test_a_body_too_long_by_one_byte_is_refused(sizes: tuple[int, ...]) -> None:
    last = len(sizes) - 1
    pieces = [{"type": "http.request", "body": b"x" * n, "more_body": i < last} for i, n in enumerate(sizes)]
    with pytest.raises(Refusal) as refused:
        await read_body(client(*pieces), [], 3)
    assert refused.value.status == 413


async def test_a_client_that_leaves_within_its_body_is_gone() -> None:
    for messages in ((), ({"type": "http.request", "body": b"a", "more_body": True},)):
        with pytest.raises(ClientGone):
            await read_body(client(*messages, stays=False), [], 3)

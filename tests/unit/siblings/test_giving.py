import asyncio

import msgspec
import pytest
from kvpool_router.index.namespace import Namespace
from kvpool_router.siblings import giving
from kvpool_router.siblings.deeds import BOOKINGS, Anew, decoded, encoded
from kvpool_router.siblings.frames import FrameReader
from kvpool_router.siblings.giving import Streamed, told_bookings
from kvpool_router.siblings.outbox import Outbox
from sibling_deeds import sent


class Hearer:
    """A sibling that draws one frame after the other."""

    def __init__(self, outbox):
        self.stream = told_bookings(outbox)
        self._reader = FrameReader(BOOKINGS)

    async def deeds(self):
        """Those of the next frame; None once the stream has ended."""
        frame = await anext(self.stream, None)
        if frame is None:
            return None
        (payload,) = self._reader.feed(frame)
        return decoded(payload)


@pytest.fixture
def outbox():
    return Outbox()


@pytest.fixture
async def hearer(outbox):
    hearer = Hearer(outbox)
    yield hearer
    await hearer.stream.aclose()


async def test_the_bookings_of_a_router_that_stops_end_once_nothing_is_open(outbox, hearer):
    outbox.sent(sent(1))
    assert await hearer.deeds() == [Anew(), sent(1)]
    outbox.finish()
    assert await hearer.deeds() == [], "one is still open"
    outbox.done(1, computed=True)
    assert await hearer.deeds() is None


async def test_what_is_told_at_once_is_bounded_in_bytes(monkeypatch, outbox, hearer):
    monkeypatch.setattr(giving, "BATCH_BYTES", 5 * len(encoded([sent(0)])) // 2)
    for number in range(5):
        outbox.sent(sent(number))
    told = [await hearer.deeds() for _ in range(3)]
    assert told == [[Anew(), sent(0), sent(1)], [sent(2), sent(3)], [sent(4)]]


async def test_a_request_that_no_frame_has_room_for_is_told_without_its_prompt(monkeypatch, outbox, hearer):
    short, long = sent(0), msgspec.structs.replace(sent(1), prompts=(bytes(1000),))
    monkeypatch.setattr(giving, "LONGEST_DEED", len(encoded([short])) - 1)
    for deed in (long, short):
        outbox.sent(deed)
    outbox.sent(msgspec.structs.replace(long, number=2))
    bare = msgspec.structs.replace(long, prompts=(), namespace=Namespace())
    assert await hearer.deeds() == [Anew(), bare, short, msgspec.structs.replace(bare, number=2)]


async def never(*_):
    await asyncio.Event().wait()


async def test_a_reader_that_takes_nothing_is_left_and_its_frames_are_closed():
    closed = asyncio.Event()

    async def frames():
        try:
            while True:
                yield b"frame"
        finally:
            closed.set()

    async def send(message):
        if message["type"] == "http.response.body":
            await never()

    async with asyncio.timeout(10):
        await Streamed(frames(), write_timeout_s=0.01)({"type": "http"}, never, send)
    assert closed.is_set()


async def test_a_reader_that_draws_may_wait_for_news_longer_than_a_write_may_take():
    bodies = []

    async def frames():
        yield b"first"
        for _ in range(9):
            await asyncio.sleep(0)
        yield b"second"

    async def send(message):
        bodies.append(message.get("body"))

    await Streamed(frames(), write_timeout_s=0.0)({"type": "http"}, never, send)
    assert bodies == [None, b"first", b"second", b""]

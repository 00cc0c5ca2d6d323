"""What siblings get from this router: on its admin port, behind the token, for as long as they listen."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing

import msgspec
from starlette.responses import Response

from kvpool_router.asgi import CancelledWhenGone, ClientGone, Message, Receive, Scope, Send
from kvpool_router.siblings.deeds import BOOKINGS, Deed, encoded, packed
from kvpool_router.siblings.frames import LONGEST_PAYLOAD, FrameWriter
from kvpool_router.siblings.outbox import Outbox

LOG = logging.getLogger(__name__)

BATCH_S = 0.003
"""Deeds gather so long. Two routers that choose within this time and the way of a packet know nothing of each other."""
HEARTBEAT_S = 1.0
"""A stream that says nothing says so: without a word for several of these, the connection is dead."""
BATCH_BYTES = 1 << 20
LONGEST_DEED = LONGEST_PAYLOAD - 16
"""Leaves room in a frame for what makes a list of it."""
WRITE_TIMEOUT_S = 10.0
"""A reader that takes nothing for so long is as good as gone, though TCP would hold on to it for many minutes."""


async def told_bookings(outbox: Outbox) -> AsyncGenerator[bytes, None]:
    """Frames of deeds: first what is open, then what happens. Ends when the router stops and nothing is open."""
    writer = FrameWriter(BOOKINGS)
    with outbox.listening() as listener:
        while not (outbox.finishing and not outbox.open):
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await listener.news.wait()
                await asyncio.sleep(BATCH_S)
            except TimeoutError:
                pass
            for batch in _batches(listener.drawn()):
                yield writer.frame(encoded(batch))


def _batches(deeds: Iterable[Deed]) -> Iterator[list[msgspec.Raw]]:
    """In order; at least one, empty where there is nothing to tell."""
    batch: list[msgspec.Raw] = []
    weight = 0
    for deed in deeds:
        told = packed(deed, LONGEST_DEED)
        own = len(told)
        if batch and weight + own > BATCH_BYTES:
            yield batch
            batch, weight = [], 0
        batch.append(msgspec.Raw(told))
        weight += own
    yield batch


class Streamed(Response):
    """Sends what the generator yields, as fast as it is taken.

    Closes it when it ends, when the reader leaves, or when it takes nothing for `write_timeout_s`.
    """

    media_type = "application/octet-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._frames = frames
        self._write_timeout_s = write_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._frames) as frames, CancelledWhenGone(receive):
                start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                await self._write(send, start)
                async for frame in frames:
                    await self._write(send, {"type": "http.response.body", "body": frame, "more_body": True})
                await self._write(send, {"type": "http.response.body", "body": b""})
        except ClientGone:
            pass

    async def _write(self, send: Send, message: Message) -> None:
        """Raises ClientGone once the reader has taken nothing for too long."""
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await send(message)
        except TimeoutError:
            LOG.warning("a reader took nothing for %g s; its stream is ended", self._write_timeout_s)
            raise ClientGone from None

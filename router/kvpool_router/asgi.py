"""The little of ASGI that the door speaks, typed."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client has closed its connection; nobody waits for the answer."""


WATCH_AFTER_S = 0.005


class CancelledWhenGone:
    """Runs an `async with` block until it ends or the client leaves, whichever is first.

    It begins to watch a few milliseconds late: nobody gains from an engine told sooner, and every request from a task
    that is not made while it is on its way.

    Raises ClientGone: the client left; the block was cancelled where it stood.
    """

    __slots__ = ("_block", "_left", "_over", "_receive", "_start", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._over = False
        self._left = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._block = asyncio.current_task()
        self._start = loop.call_later(WATCH_AFTER_S, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watcher = loop.create_task(self._watch())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._start.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._left and kind is asyncio.CancelledError and self._block is not None and self._block.uncancel() == 0:
            raise ClientGone from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over and self._block is not None:
            self._left = True
            self._block.cancel()


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer at once."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

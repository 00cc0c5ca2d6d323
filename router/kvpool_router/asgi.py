"""The little of ASGI that the door speaks, typed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client has closed its connection; nobody waits for the answer."""


@asynccontextmanager
async def cancelled_when_gone(receive: Receive) -> AsyncIterator[None]:
    """Runs the block until it ends or the client leaves, whichever is first.

    Raises ClientGone: the client left; the block was cancelled where it stood.

    """
    block = asyncio.current_task()
    assert block is not None  # noqa: S101 - only coroutines run here
    over = False
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if not over:
            left = True
            block.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if left and block.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        over = True
        watcher.cancel()


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer at once."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

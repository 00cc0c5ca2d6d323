"""The little of HTTP that the simulator needs on top of ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Header = tuple[bytes, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
PLAIN = b"text/plain; charset=utf-8"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"

_ASKED = (b"Method", b"Headers", b"Private-Network")


async def read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes | None = JSON, further: Sequence[Header] = ()
) -> None:
    headers = [*further] if content_type is None else [*further, (b"content-type", content_type)]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def preflight(scope: Scope) -> list[Header] | None:
    """Headers of the answer to a browser's question whether it may ask; None where the request is no such question.

    They are those of vLLM's CORS middleware (starlette's) with its default `--allowed-origins`, which are none.
    """
    asked: dict[bytes, bytes] = dict(scope["headers"])
    if b"origin" not in asked or b"access-control-request-method" not in asked:
        return None
    answer = [
        (b"vary", b"Origin, " + b", ".join(b"Access-Control-Request-" + of for of in _ASKED)),
        (b"access-control-allow-methods", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"),
        (b"access-control-max-age", b"600"),
    ]
    wanted = asked.get(b"access-control-request-headers")
    return answer if wanted is None else [*answer, (b"access-control-allow-headers", wanted)]


async def begin_stream(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENTS)]})


async def gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_gone(work: Awaitable[None], receive: Receive) -> bool:
    """Does the work unless the client leaves first; whether the work was done."""
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        return doing.done()
    finally:
        for task in (doing, leaving):
            task.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)

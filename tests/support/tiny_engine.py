"""An upstream on a real socket that answers as told: OpenAI-shaped streams and bodies, or a fault on request."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from aiohttp import web

Respond = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]

USAGE = {
    "prompt_tokens": 32,
    "total_tokens": 35,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 16},
}
WORDS = ("one", "two", "three")


def chat_event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"id": "c", **fields}, separators=(",", ":")).encode() + b"\n\n"


def chat_events(words: Sequence[str] = WORDS) -> list[bytes]:
    """A chat stream as an engine sends it that is asked for usage."""
    told = [chat_event(choices=[{"index": 0, "delta": {"content": word}}]) for word in words]
    return [*told, chat_event(choices=[], usage=USAGE), b"data: [DONE]\n\n"]


@dataclass
class Seen:
    """One request as it reached the engine."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


@dataclass
class TinyEngine:
    """Use as an async context manager; `url` is its address."""

    respond: Respond | None = None
    seen: list[Seen] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    """A client went away before its answer ended."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "TinyEngine":
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            Seen(
                request.method, request.raw_path, {name.lower(): value for name, value in request.headers.items()}, body
            )
        )
        try:
            return await (self.respond or streams())(request, body)
        except asyncio.CancelledError:
            self.aborted.set()
            raise


def streams(
    events: Sequence[bytes] | None = None, *, gate: asyncio.Event | None = None, die_after: int | None = None
) -> Respond:
    """Sends events one by one: the first only once the gate is open; cuts the connection after `die_after` of them."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for count, event in enumerate(events if events is not None else chat_events()):
            if die_after is not None and count >= die_after:
                _cut(request)
            if count == 0 and gate is not None:
                await gate.wait()
            await response.write(event)
            await asyncio.sleep(0)
        return response

    return respond


def answers(payload: object, status: int = 200, headers: dict[str, str] | None = None) -> Respond:
    """Sends one JSON body."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response(payload, status=status, headers=headers)

    return respond


def dies() -> Respond:
    """Takes the request and cuts the connection."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        _cut(request)
        raise AssertionError("unreachable")

    return respond


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("cut on purpose")

"""One exchange with one engine: the request goes out unchanged, the answer comes back as it arrives.

An answer's start is held back until its first byte of body, so that until then another engine can still be asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvpool_router.asgi import Headers, Scope, Send
from kvpool_router.engine_http import Broken, Connections, Exchange, Unreachable
from kvpool_router.liveness import Liveness
from kvpool_router.requests.refusal import Dialect, Refusal
from kvpool_router.sse import EventStream
from kvpool_router.workers import Worker

CONNECT_TIMEOUT_S = 5.0
IDLE_CONNECTION_S = 4.0
"""Shorter than the 5 s after which vLLM's server closes an idle connection, so that ours is never the stale one."""
SILENT = "it is silent, on its metrics too"
RETRIED_STATUSES = frozenset({502, 503})

_OF_A_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Speak of one connection, and mean nothing on the next (RFC 9110, 7.6.1)."""
_NOT_FORWARDED = _OF_A_CONNECTION | {
    b"accept-encoding",  # an unpacked answer is needed to find its usage
    b"content-length",  # written anew for the body that is sent
    b"expect",  # the body is here already
    b"host",  # the engine's own
    b"proxy-authorization",  # for this proxy, if for any
    b"x-data-parallel-rank",  # the router chooses it
    b"x-request-id",  # added below, with the id that the router's logs name
}
_NOT_RETURNED = _OF_A_CONNECTION | {
    b"date",  # this server writes its own
    b"server",  # which program answers is no client's concern
    b"x-request-id",  # added below, whatever the engine answers
}


class EngineFailed(Exception):
    """The engine gave no answer: no connection, one that died before the first byte, silence, or 502 and 503."""

    def __init__(self, why: str, *, reached: bool = True, silent: bool = False) -> None:
        super().__init__(why)
        self.reached = reached
        """The request was perhaps delivered, so that it may itself be what the engine failed on."""
        self.silent = silent
        """Given up for the engine's silence, which ends when its metrics say so: no circuit need open for it."""


class Outgoing(NamedTuple):
    """A request as every engine would be sent it."""

    line: bytes
    """Method and target: path and query."""
    fields: bytes
    """Header fields, each with its line end."""
    body: bytes


@dataclass(slots=True)
class Answer:
    """An engine's answer whose first byte has come."""

    engine: str
    """Its address."""
    response: Exchange
    first: bytes
    """The first chunk of a stream, the whole of any other body, empty where there is none."""
    streams: bool

    @property
    def status(self) -> int:
        return self.response.status

    def headers(self, request_id: bytes) -> list[tuple[bytes, bytes]]:
        """The engine's own, less what belongs to its connection; a stream's length is not known beforehand."""
        kept = [
            (name, value)
            for name, value in self.response.headers
            if name not in _NOT_RETURNED and not (self.streams and name == b"content-length")
        ]
        kept.append((b"x-request-id", request_id))
        return kept


def outgoing(method: str, target: str, headers: Headers, request_id: str, body: bytes | None) -> Outgoing:
    """The client's request, less what belongs to its connection."""
    kept = [b"%b: %b\r\n" % field for field in headers if field[0] not in _NOT_FORWARDED]
    kept.append(b"x-request-id: %b\r\n" % request_id.encode("latin-1"))
    return Outgoing(f"{method} {target}".encode("latin-1"), b"".join(kept), body or b"")


def target_of(scope: Scope) -> str:
    """Path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def rank_header(worker: Worker, roster: Sequence[Worker]) -> bytes:
    """Names the DP rank to an engine that has several; to any other it means nothing."""
    if worker.id.dp_rank == 0 and not any(each.id.pod == worker.id.pod and each.id != worker.id for each in roster):
        return b""
    return b"x-data-parallel-rank: %d\r\n" % worker.id.dp_rank


class Engines:
    """Sends requests to engines."""

    def __init__(self, liveness: Liveness) -> None:
        self._connections = Connections(IDLE_CONNECTION_S, CONNECT_TIMEOUT_S)
        self.liveness = liveness

    def close(self) -> None:
        """Ends connections that nobody uses."""
        self._connections.close()

    async def ask(self, base: str, request: Outgoing, extra: bytes = b"") -> Answer:
        """Waits for the first byte of the answer's body.

        Args:
            base: the engine's URL.
            request: what to send.
            extra: header fields for this engine alone, each with its line end.

        Raises EngineFailed: another engine may be asked; this one is not known to have answered anything.

        """
        try:
            exchange = await self._connections.open(base)
        except Unreachable as error:
            raise EngineFailed(str(error), reached=False) from error
        waiting = self.liveness.waiting(base)
        waiting.add(exchange)
        try:
            await exchange.ask(request.line, request.fields + extra, request.body)
            return await _begun(base, exchange)
        except Broken as error:
            let_go = exchange not in waiting
            raise EngineFailed(SILENT if let_go else str(error), silent=let_go) from error
        except BaseException:
            exchange.close()
            raise
        finally:
            waiting.discard(exchange)

    async def relay(self, answer: Answer, events: EventStream, dialect: Dialect, send: Send) -> str | None:
        """Passes the rest of a stream on to its end; None, or why it broke off.

        The client sees a break as one error event, since the status is gone already.
        """
        try:
            await _pass_on(answer, events, send)
            broken, last = None, events.close()
        except Broken as error:
            why = SILENT if self.liveness.is_silent(answer.engine) else str(error)
            broken = f"The engine broke off its answer: {why}. Send the request again."
            last = Refusal(502, broken).stream_event(dialect)
        await send({"type": "http.response.body", "body": last})
        return broken


async def _begun(base: str, exchange: Exchange) -> Answer:
    if exchange.status in RETRIED_STATUSES:
        raise EngineFailed(f"it answered {exchange.status}")
    streams = any(
        name == b"content-type" and value.startswith(b"text/event-stream") for name, value in exchange.headers
    )
    first = await (exchange.readany() if streams else exchange.read())
    return Answer(base, exchange, first, streams)


async def begin(answer: Answer, events: EventStream, request_id: bytes, send: Send) -> None:
    """Sends a stream's start and its first chunk; from here on there is no other engine to ask."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers(request_id)})
    if first := events.feed(answer.first):
        await send({"type": "http.response.body", "body": first, "more_body": True})


async def _pass_on(answer: Answer, events: EventStream, send: Send) -> None:
    feed, read = events.feed, answer.response.readany
    while chunk := await read():
        if chunk := feed(chunk):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

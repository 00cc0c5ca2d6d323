"""One exchange with one engine: the request goes out unchanged, the answer comes back as it arrives.

An answer's start is held back until its first byte of body, so that until then another engine can still be asked.
"""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from yarl import URL

from kvpool_router.asgi import Headers, Scope, Send
from kvpool_router.liveness import Liveness
from kvpool_router.requests.refusal import Dialect, Refusal
from kvpool_router.sse import EventStream
from kvpool_router.workers import Worker

CONNECT_TIMEOUT_S = 5.0
IDLE_CONNECTION_S = 4.0
"""Shorter than the 5 s after which vLLM's server closes an idle connection, so that ours is never the stale one."""
LARGE_BODY_BYTES = 1 << 20
KEPT_URLS = 4096
SILENT = "it is silent, on its metrics too"
RETRIED_STATUSES = frozenset({502, 503})

_NOT_FORWARDED = frozenset(
    {
        b"accept-encoding",  # an unpacked answer is needed to find its usage
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-data-parallel-rank",
        b"x-request-id",
    }
)
_NOT_RETURNED = frozenset(
    {
        b"connection",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)


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

    method: str
    target: str
    """Path and query."""
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


@dataclass(slots=True)
class Answer:
    """An engine's answer whose first byte has come."""

    engine: str
    """Its address."""
    response: aiohttp.ClientResponse
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
            for name, value in self.response.raw_headers
            if (lower := name.lower()) not in _NOT_RETURNED and not (self.streams and lower == b"content-length")
        ]
        kept.append((b"x-request-id", request_id))
        return kept


def engine_session() -> aiohttp.ClientSession:
    """A client without limits of its own: the engines' queues are the limit, and a stream lasts as long as it likes."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_S, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    )


def outgoing(method: str, target: str, headers: Headers, request_id: str, body: bytes | None) -> Outgoing:
    """The client's request, less what belongs to its connection."""
    kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _NOT_FORWARDED]
    return Outgoing(method, target, (*kept, ("x-request-id", request_id)), body)


def target_of(scope: Scope) -> str:
    """Path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def rank_header(worker: Worker, roster: Sequence[Worker]) -> tuple[tuple[str, str], ...]:
    """Names the DP rank to an engine that has several; to any other it means nothing."""
    if worker.id.dp_rank == 0 and not any(each.id.pod == worker.id.pod and each.id != worker.id for each in roster):
        return ()
    return (("x-data-parallel-rank", str(worker.id.dp_rank)),)


class Engines:
    """Sends requests to engines."""

    def __init__(self, session: aiohttp.ClientSession, liveness: Liveness) -> None:
        self._session = session
        self.liveness = liveness
        self._urls: dict[tuple[str, str], URL] = {}

    async def ask(self, base: str, request: Outgoing, extra: Sequence[tuple[str, str]] = ()) -> Answer:
        """Waits for the first byte of the answer's body.

        Args:
            base: the engine's URL.
            request: what to send.
            extra: headers for this engine alone.

        Raises EngineFailed: another engine may be asked; this one is not known to have answered anything.

        """
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with self.liveness.first_byte(base, limit):
                    return await self._answer(base, request, extra)
        except TimeoutError as error:
            raise EngineFailed(SILENT, silent=True) from error

    async def relay(self, answer: Answer, events: EventStream, dialect: Dialect, send: Send) -> str | None:
        """Passes the rest of a stream on to its end; None, or why it broke off.

        The client sees a break as one error event, since the status is gone already.
        """
        with self.liveness.streaming(answer.engine, answer.response):
            try:
                await _pass_on(answer, events, send)
                broken, last = None, events.close()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                why = SILENT if self.liveness.is_silent(answer.engine) else _told(error)
                broken = f"The engine broke off its answer: {why}. Send the request again."
                last = Refusal(502, broken).stream_event(dialect)
        await send({"type": "http.response.body", "body": last})
        return broken

    async def _answer(self, base: str, request: Outgoing, extra: Sequence[tuple[str, str]]) -> Answer:
        body = request.body
        data = io.BytesIO(body) if body is not None and len(body) > LARGE_BODY_BYTES else body
        try:
            response = await self._session.request(
                request.method,
                self._url(base, request.target),
                data=data,
                headers=(*request.headers, *extra),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            unreached = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
            raise EngineFailed(_told(error), reached=not unreached) from error
        try:
            return await _begun(base, response)
        except BaseException:
            response.close()
            raise

    def _url(self, base: str, target: str) -> URL:
        """Parsing a URL costs more than choosing an engine, and there are few."""
        url = self._urls.get((base, target))
        if url is None:
            if len(self._urls) >= KEPT_URLS:
                self._urls.clear()
            url = self._urls[base, target] = URL(base + target, encoded=True)
        return url


async def _begun(base: str, response: aiohttp.ClientResponse) -> Answer:
    if response.status in RETRIED_STATUSES:
        raise EngineFailed(f"it answered {response.status}")
    streams = response.headers.get("content-type", "").startswith("text/event-stream")
    try:
        first = await (response.content.readany() if streams else response.content.read())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EngineFailed(_told(error)) from error
    return Answer(base, response, first, streams)


async def begin(answer: Answer, events: EventStream, request_id: bytes, send: Send) -> None:
    """Sends a stream's start and its first chunk; from here on there is no other engine to ask."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers(request_id)})
    if first := events.feed(answer.first):
        await send({"type": "http.response.body", "body": first, "more_body": True})


async def _pass_on(answer: Answer, events: EventStream, send: Send) -> None:
    feed, read = events.feed, answer.response.content.readany
    while chunk := await read():
        if chunk := feed(chunk):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

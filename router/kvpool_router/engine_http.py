"""HTTP/1.1 to engines, on httptools: as much of it as passing requests and answers on needs.

    Connections.open ── an idle connection or a new one ── Exchange: the request at once, the answer as it comes

aiohttp's client is half of what a plain proxy adds to the first byte: a task that writes the body, and objects for the
request, its payload and its streams, which a processor just woken from idling pays for at a third of its speed. Engines
need none of what those are for: no redirects, cookies, TLS, compression or upgrades.
"""

import asyncio
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

MAX_BUFFERED_BYTES = 1 << 18
"""An engine that is faster than its client is read no further than about this."""
KEPT_ADDRESSES = 4096


class Unreachable(Exception):
    """No connection: the engine has not seen the request."""


class Broken(Exception):
    """The connection ended before the answer was whole, or what came is no HTTP."""


@dataclass(slots=True)
class _Address:
    """One engine's."""

    host: str
    port: int
    named: bytes
    """As a Host header."""
    idle: "list[Exchange]" = field(default_factory=list)


class Exchange(asyncio.Protocol):
    """One connection to an engine, and the answer that is on its way through it."""

    def __init__(self, address: _Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._lost: str | None = None
        self._begun = False
        self._whole = True
        self._reusable = False
        self._ends_with_connection = False
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.total_bytes = 0
        """Of all bodies so far."""

    @property
    def is_open(self) -> bool:
        return self._lost is None and not self._transport.is_closing()

    async def ask(self, line: bytes, fields: bytes, body: bytes) -> None:
        """Writes a request and waits for the head of its answer.

        Args:
            line: method and target, as in `POST /v1/completions`.
            fields: header fields, each with its line end. Host and Content-Length are added.
            body: all of it, perhaps empty.

        Raises Broken: there will be none; the engine may have seen the request.

        """
        self.headers, self._begun, self._whole = [], False, False
        host = self._address.named
        head = b"%b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n%b\r\n" % (line, host, len(body), fields)
        self._transport.writelines((head, body))
        while not self._begun:
            await self._more()

    async def readany(self) -> bytes:
        """What has come of the body since the last call, empty at its end. Raises Broken: the rest will not come."""
        while not self._chunks:
            if self._whole:
                return b""
            await self._more()
        found = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def read(self) -> bytes:
        """The rest of the body. Raises Broken: it will not come."""
        pieces = []
        while piece := await self.readany():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """The connection goes on to another request if the answer was read to its end; else the engine sees it cut."""
        if self._whole and not self._chunks and self._reusable and self.is_open:
            self._reusable = False
            self.idle_since = self._loop.time()
            self._address.idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    async def _more(self) -> None:
        if self._lost is not None:
            raise Broken(self._lost)
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._lost = f"its answer is not HTTP: {error}"
            self.abort()
        if self._unread > MAX_BUFFERED_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun and self._ends_with_connection and exc is None:
            self._whole = True
        self._lost = self._lost or f"its connection ended: {exc or 'closed'}"
        if self in self._address.idle:
            self._address.idle.remove(self)
        self._wake()

    def on_message_begin(self) -> None:
        if self._whole:
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # informational: the answer is still to come
            self.headers = []
            return
        self._begun = True
        self._reusable = self._parser.should_keep_alive()
        framing = (b"content-length", b"transfer-encoding")
        self._ends_with_connection = not (self._reusable or any(name in framing for name, _ in self.headers))

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._unread += len(body)
        self.total_bytes += len(body)

    def on_message_complete(self) -> None:
        self._whole = self._begun


class Connections:
    """Keeps connections for the next request, as many as there ever were at a time: the engines' queues are the limit.

    Args:
        idle_s: how long an unused connection is good; shorter than the engine's own limit.
        connect_s: how long an engine may take to accept one.

    """

    def __init__(self, idle_s: float, connect_s: float) -> None:
        self._idle_s = idle_s
        self._connect_s = connect_s
        self._addresses: dict[str, _Address] = {}

    async def open(self, base: str) -> Exchange:
        """A connection for one request to the engine at this URL; whoever gets it closes it.

        Raises Unreachable: there is none.
        """
        address = self._addresses.get(base) or self._known(base)
        return self._unused(address.idle) or await self._connected(address)

    def close(self) -> None:
        """Ends connections that nobody uses."""
        for address in self._addresses.values():
            for exchange in tuple(address.idle):
                exchange.abort()

    def _unused(self, idle: list[Exchange]) -> Exchange | None:
        """The one used last; older ones than it can only be staler."""
        while idle:
            exchange = idle.pop()
            if exchange.is_open and asyncio.get_running_loop().time() - exchange.idle_since < self._idle_s:
                return exchange
            exchange.abort()
        return None

    async def _connected(self, address: _Address) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, exchange = await loop.create_connection(lambda: Exchange(address), address.host, address.port)
        except TimeoutError as error:
            raise Unreachable(f"no connection within {self._connect_s:g} s") from error
        except OSError as error:
            raise Unreachable(f"no connection: {error}") from error
        return exchange

    def _known(self, base: str) -> _Address:
        if len(self._addresses) >= KEPT_ADDRESSES:
            self._addresses = {name: each for name, each in self._addresses.items() if each.idle}
        url = urlsplit(base)
        address = _Address(url.hostname or "", url.port or 80, url.netloc.encode("ascii"))
        return self._addresses.setdefault(base, address)

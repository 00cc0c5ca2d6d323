"""Requests to engines and their answers, byte by byte against a server that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from eventually import eventually
from kvpool_router.engine_http import MAX_BUFFERED_BYTES, Broken, Connections, Exchange, Unreachable

Told = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Engine:
    def __init__(self, told: Told | bytes) -> None:
        self.told = told
        self.requests: list[bytes] = []
        self.connections = 0
        self.left = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await reader.read(1 << 16):
                self.requests.append(request)
                if isinstance(self.told, bytes):
                    writer.write(self.told)
                else:
                    await self.told(request, writer)
        except OSError:
            pass
        self.left += 1
        writer.close()


@asynccontextmanager
async def serving(told: Told | bytes, idle_s: float = 60.0) -> AsyncIterator[tuple[Engine, Connections, str]]:
    engine = Engine(told)
    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    connections = Connections(idle_s, 5.0)
    try:
        yield engine, connections, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        connections.close()
        server.close()
        await eventually(lambda: engine.left == engine.connections, within_s=5.0)


async def ask(connections: Connections, url: str, body: bytes = b"") -> Exchange:
    exchange = await connections.open(url)
    try:
        await exchange.ask(b"POST /v1/x?y=1", b"x-request-id: 7\r\n", body)
    except BaseException:
        exchange.close()
        raise
    return exchange


async def test_a_request_goes_out_as_it_was_given() -> None:
    async with serving(WHOLE) as (engine, connections, url):
        answer = await ask(connections, url, b"body")
        assert (answer.status, await answer.read()) == (200, b"ok")
        answer.close()
    host = url.removeprefix("http://").encode()
    head = b"POST /v1/x?y=1 HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 4\r\nx-request-id: 7\r\n\r\n"
    assert engine.requests == [head + b"body"]


async def test_one_connection_serves_one_answer_after_the_other() -> None:
    async with serving(WHOLE) as (engine, connections, url):
        for _ in range(3):
            answer = await ask(connections, url)
            assert await answer.read() == b"ok"
            answer.close()
        assert engine.connections == 1


async def test_answers_that_are_on_their_way_at_once_have_a_connection_each() -> None:
    async with serving(WHOLE) as (engine, connections, url):
        answers = [await ask(connections, url) for _ in range(3)]
        for answer in answers:
            await answer.read()
            answer.close()
        assert engine.connections == 3


async def test_a_connection_that_was_unused_for_too_long_is_not_used_again() -> None:
    async with serving(WHOLE, idle_s=0.0) as (engine, connections, url):
        for _ in range(2):
            answer = await ask(connections, url)
            await answer.read()
            answer.close()
        assert engine.connections == 2


async def test_a_connection_that_the_engine_ended_is_not_used_again() -> None:
    async def once(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)
        writer.close()

    async with serving(once) as (engine, connections, url):
        for count in (1, 2):
            answer = await ask(connections, url)
            assert await answer.read() == b"ok"
            answer.close()
            await eventually(lambda count=count: engine.left == count, within_s=5.0)
            await eventually(lambda answer=answer: not answer.is_open, within_s=5.0)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_an_engine_that_wants_to_end_its_connection_may(head: bytes) -> None:
    async with serving(head + b"content-length: 2\r\n\r\nok") as (engine, connections, url):
        for _ in range(2):
            answer = await ask(connections, url)
            assert await answer.read() == b"ok"
            answer.close()
        assert engine.connections == 2


async def test_a_stream_is_read_as_it_comes() -> None:
    next_one = asyncio.Event()

    async def slowly(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\none\r\n")
        await next_one.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with serving(slowly) as (_, connections, url):
        answer = await ask(connections, url)
        assert answer.headers == [(b"transfer-encoding", b"chunked")]
        assert await answer.readany() == b"one"
        next_one.set()
        assert (await answer.readany(), await answer.readany(), await answer.readany()) == (b"two", b"", b"")
        assert answer.total_bytes == 6
        answer.close()


async def test_an_informational_answer_is_none() -> None:
    async with serving(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE) as (_, connections, url):
        answer = await ask(connections, url)
        assert (answer.status, answer.headers) == (200, [(b"content-length", b"2")])
        assert await answer.read() == b"ok"
        answer.close()


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def ended(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        writer.close()

    async with serving(ended) as (_, connections, url):
        answer = await ask(connections, url)
        assert await answer.read() == b"all of it"
        answer.close()


@pytest.mark.parametrize("part", [CHUNKED + b"3\r\none\r\n", WHOLE[:-1]])
async def test_a_body_that_is_cut_is_no_body(part: bytes) -> None:
    async def cut(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(part)
        writer.close()

    async with serving(cut) as (_, connections, url):
        answer = await ask(connections, url)
        with pytest.raises(Broken, match="ended"):
            await answer.read()
        answer.close()


@pytest.mark.parametrize(("said", "why"), [(b"SSH-2.0-x\r\n", "not HTTP"), (b"HTTP/1.1 200 OK\r\ncontent-le", "ended")])
async def test_no_answer_is_told_from_a_bad_one(said: bytes, why: str) -> None:
    async def end(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with serving(end) as (_, connections, url):
        with pytest.raises(Broken, match=why):
            await ask(connections, url)


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    async with serving(WHOLE + WHOLE.replace(b"ok", b"no")) as (engine, connections, url):
        for count in (1, 2):
            answer = await ask(connections, url)
            assert await answer.read() == b"ok"
            answer.close()
            assert engine.connections == count


async def test_a_connection_that_speaks_while_idle_is_not_used_again() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: bytes, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(WHOLE)

    async with serving(keep) as (engine, connections, url):
        answer = await ask(connections, url)
        await answer.read()
        answer.close()
        writers[0].write(WHOLE)
        await eventually(lambda: not answer.is_open, within_s=5.0)
        again = await ask(connections, url)
        await again.read()
        again.close()
        assert engine.connections == 2


async def test_an_engine_sees_that_its_answer_is_no_longer_wanted() -> None:
    async with serving(CHUNKED + b"3\r\none\r\n") as (engine, connections, url):
        answer = await ask(connections, url)
        assert await answer.readany() == b"one"
        reading = asyncio.create_task(answer.readany())
        await asyncio.sleep(0)
        answer.close()
        with pytest.raises(Broken):
            await reading
        await eventually(lambda: engine.left == 1, within_s=5.0)


async def test_an_engine_sees_that_a_request_was_given_up_before_its_answer() -> None:
    async with serving(b"") as (engine, connections, url):
        asking = asyncio.create_task(ask(connections, url))
        await eventually(lambda: bool(engine.requests), within_s=5.0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: engine.left == 1, within_s=5.0)


async def test_a_fast_engine_waits_for_a_slow_reader() -> None:
    pieces = 400

    async def flood(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(pieces):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(flood) as (_, connections, url):
        answer = await ask(connections, url)
        await eventually(lambda: answer.total_bytes > MAX_BUFFERED_BYTES, within_s=5.0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert answer.total_bytes < 2 * MAX_BUFFERED_BYTES
        assert len(await answer.read()) == pieces * 65536
        answer.close()


async def test_an_engine_that_is_not_there_has_not_seen_the_request() -> None:
    async with serving(WHOLE) as (_, _, url):
        pass
    with pytest.raises(Unreachable, match="no connection"):
        await ask(Connections(60.0, 5.0), url)


async def test_an_engine_that_does_not_accept_in_time_has_not_seen_the_request() -> None:
    with pytest.raises(Unreachable, match="within 0 s"):
        await ask(Connections(60.0, 0.0), "http://127.0.0.1:9")


async def test_addresses_of_engines_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvpool_router.engine_http.KEPT_ADDRESSES", 2)
    async with serving(WHOLE) as (engine, connections, url):
        for port in range(1, 4):
            with pytest.raises(Unreachable):
                await connections.open(f"http://127.0.0.1:{port}")
        for _ in range(2):
            answer = await ask(connections, url)
            await answer.read()
            answer.close()
        assert engine.connections == 1

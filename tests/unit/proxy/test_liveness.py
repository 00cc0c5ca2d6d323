"""An engine that accepts and never answers holds no request that another could take."""

import asyncio
import json

import pytest
from aiohttp import web
from door_world import MODEL, DoorWorld, door, until
from kvpool_router.liveness import DEAD_AFTER_S, READINGS_TO_SILENT, Liveness
from kvpool_router.workers import Roster, Worker, WorkerId
from tiny_engine import Respond, TinyEngine, answers, streams


def hung() -> TinyEngine:
    """Takes requests and never answers."""
    return TinyEngine(streams(gate=asyncio.Event()))


def stalls_after(events: int) -> Respond:
    """Streams so many events, then nothing more."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(events):
            await response.write(b'data: {"choices":[{"text":"%d"}]}\n\n' % number)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    return respond


def prompt(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "stream": True, "prompt": list(range(32)), **fields}


def miss(world: DoorWorld, engine: TinyEngine, *, at: float = 0.0, times: int = READINGS_TO_SILENT) -> None:
    for _ in range(times):
        world.deps.engines.liveness.missed(engine.url, at)


@pytest.mark.parametrize("stream", [True, False])
async def test_requests_without_a_byte_leave_a_silent_engine_for_one_that_answers(stream: bool) -> None:
    silent, other = hung(), TinyEngine()
    async with silent, other, door([silent, other]) as world:
        held = [asyncio.create_task(world.post("/v1/completions", prompt(stream=stream))) for _ in range(4)]
        await until(lambda: silent.seen and len(silent.seen) + len(other.seen) == 4)
        waiting = len(silent.seen)
        miss(world, silent, times=1)
        done, _ = await asyncio.wait(held, timeout=0.1)
        assert len(done) == 4 - waiting
        miss(world, silent)
        assert [(await each)[0] for each in held] == [200] * 4
        assert len(other.seen) == 4
        assert "silent" in world.noted.retries[0][1]
        assert world.deps.load.in_flight(WorkerId("e0", 0)) == 0
        assert (await world.post("/v1/completions", prompt()))[0] == 200
        assert len(silent.seen) == waiting


async def test_an_engine_that_answers_again_is_used_again() -> None:
    one, other = TinyEngine(), TinyEngine()
    async with one, other, door([one, other]) as world:
        miss(world, one)
        world.deps.engines.liveness.answered(one.url)
        for _ in range(2):
            await world.post("/v1/completions", prompt())
        assert len(one.seen) == len(other.seen) == 1


async def test_engines_that_are_silent_one_after_the_other_leave_a_request_to_the_one_that_answers_again() -> None:
    gate = asyncio.Event()
    one, other = TinyEngine(streams(gate=gate)), TinyEngine(streams(gate=gate))
    async with one, other, door([one, other]) as world:
        held = [asyncio.create_task(world.post("/v1/completions", prompt())) for _ in range(2)]
        await until(lambda: len(one.seen) + len(other.seen) == 2)
        miss(world, one)
        await until(lambda: len(other.seen) == 2)
        world.deps.engines.liveness.answered(one.url)
        before = len(one.seen)
        miss(world, other)
        await until(lambda: len(one.seen) == before + 2)
        gate.set()
        assert [(await each)[0] for each in held] == [200, 200]


async def test_where_no_engine_answers_all_are_used_as_before_until_they_are_dead() -> None:
    gate = asyncio.Event()
    slow = TinyEngine(streams(gate=gate))
    async with slow, door([slow]) as world:
        miss(world, slow)
        held = asyncio.create_task(world.post("/v1/completions", prompt()))
        await until(lambda: slow.seen)
        miss(world, slow, at=DEAD_AFTER_S - 1)
        gate.set()
        assert (await held)[0] == 200
        gate.clear()
        held = asyncio.create_task(world.post("/v1/completions", prompt()))
        await until(lambda: len(slow.seen) == 2)
        miss(world, slow, at=DEAD_AFTER_S)
        status, body = await held
        assert status == 503
        assert "silent" in json.loads(body)["error"]["message"]
        assert (await world.post("/v1/completions", prompt()))[0] == 503
        assert len(slow.seen) == 2


async def test_a_begun_stream_outlives_silence_but_ends_with_an_error_event_when_its_engine_is_dead() -> None:
    stalled = TinyEngine(stalls_after(2))
    async with stalled, TinyEngine() as other, door([stalled, other]) as world:
        held = [asyncio.create_task(world.post("/v1/completions", prompt())) for _ in range(2)]
        await until(lambda: stalled.seen and other.seen)
        await until(lambda: len(world.noted.records) == 1)
        miss(world, stalled)
        miss(world, stalled, at=DEAD_AFTER_S - 1)
        assert len(world.noted.records) == 1
        miss(world, stalled, at=DEAD_AFTER_S)
        bodies = [(await each)[1] for each in held]
        (broken,) = [body for body in bodies if b'"error"' in body]
        assert b"it is silent" in broken
        assert broken.startswith(b'data: {"choices":[{"text":"0"}]}')


async def test_a_stream_that_still_grows_is_left_alone_however_long_the_metrics_are_silent() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for gate in gates:
            await response.write(b'data: {"choices":[{"text":"x"}]}\n\n')
            await gate.wait()
        return response

    async with (
        TinyEngine(respond) as busy,
        door([busy]) as world,
        world.client.post(world.url + "/v1/completions", json=prompt()) as answer,
    ):
        for number, gate in enumerate(gates):
            assert await answer.content.readany()
            miss(world, busy, at=number * DEAD_AFTER_S)
            gate.set()
        assert await answer.content.read() == b""


async def test_what_a_vanished_engine_was_doing_is_lost_only_if_it_was_silent() -> None:
    silent, answering = TinyEngine(stalls_after(1)), TinyEngine(stalls_after(1))
    async with silent, answering, door([silent, answering]) as world:
        held = [asyncio.create_task(world.post("/v1/completions", prompt())) for _ in range(2)]
        await until(lambda: all(world.deps.load.standing(WorkerId(pod, 0), 0.0).running for pod in ("e0", "e1")))
        miss(world, silent)
        world.deps.engines.liveness.keep(())
        done, pending = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == len(pending) == 1
        assert b'"error"' in done.pop().result()[1]
        assert not world.deps.engines.liveness.is_silent(silent.url)
        pending.pop().cancel()


async def test_models_are_listed_by_an_engine_that_answers() -> None:
    silent, other = hung(), TinyEngine(answers({"data": []}))
    async with silent, other, door([silent, other]) as world:
        miss(world, silent)
        for _ in range(2):
            async with world.client.get(world.url + "/v1/models") as answer:
                assert answer.status == 200
        assert silent.seen == []


def test_answers_of_unknown_engines_change_nothing() -> None:
    liveness = Liveness(Roster())
    liveness.answered("http://127.0.0.1:1")
    pool: tuple[Worker, ...] = ()
    assert liveness.answering(pool) is pool

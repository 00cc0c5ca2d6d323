"""Engines on real sockets are asked where they publish their events."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from eventually import eventually
from kvpool_router.engine_wiring import EngineWiring
from kvpool_router.events.wiring import SILENT, Source
from kvpool_router.workers import Worker, WorkerId
from tiny_engine import TinyEngine, answers

OWN = {"endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5657", "topic": "kv@a@m"}


def worker(engine: TinyEngine, rank: int = 0, **changes: object) -> Worker:
    told = Worker(
        WorkerId("a", rank),
        "uid",
        0,
        engine.url,
        "tcp://10.0.0.1:5557",
        None,
        ready=True,
        draining=False,
        terminating=False,
    )
    return replace(told, **changes)


@asynccontextmanager
async def asking():
    told: list[tuple[WorkerId, Source]] = []
    async with aiohttp.ClientSession() as session:
        wiring = EngineWiring(session, lambda *each: told.append(each), first_pause_s=0.01)
        try:
            yield wiring, told
        finally:
            await wiring.close()


async def test_each_process_is_asked_once_for_all_its_ranks_and_again_after_a_restart():
    async with TinyEngine(answers({"0": OWN, "1": OWN})) as engine, asking() as (wiring, told):
        both = (worker(engine), worker(engine, 1))
        wiring.follow(both)
        await eventually(lambda: len(told) == 2)
        wiring.follow(both)
        assert told == [(each.id, Source(**OWN)) for each in both]
        assert [each.target for each in engine.seen] == ["/kv_event_sources"]
        wiring.follow(tuple(replace(each, restart_count=1) for each in both))
        await eventually(lambda: len(told) == 4)
        assert len(engine.seen) == 2


async def test_an_engine_that_does_not_serve_yet_or_has_no_events_is_not_asked():
    async with TinyEngine(answers({})) as engine, asking() as (wiring, told):
        wiring.follow((worker(engine, ready=False), worker(engine, 1, events=None), worker(engine, 2)))
        await eventually(lambda: told)
        assert told == [(WorkerId("a", 2), SILENT)]


async def test_a_failure_that_may_pass_is_asked_after_again():
    async def respond(request: web.Request, body: bytes) -> web.Response:
        if len(engine.seen) < 3:
            return web.Response(status=503)
        return web.Response(body=json.dumps({"0": OWN}))

    async with TinyEngine() as engine, asking() as (wiring, told):
        engine.respond = respond
        wiring.follow((worker(engine),))
        await eventually(lambda: told)
        assert len(engine.seen) == 3


@pytest.mark.parametrize("respond", [answers({"detail": "Not Found"}, status=404), answers({"error": "what?"})])
async def test_an_engine_that_cannot_tell_is_left_alone(respond):
    async with TinyEngine(respond) as engine, asking() as (wiring, told):
        wiring.follow((worker(engine),))
        (task,) = wiring._asking.values()
        await eventually(task.done)
        assert (told, len(engine.seen)) == ([], 1)


async def test_a_worker_that_is_gone_is_asked_for_no_more():
    async with TinyEngine(answers({}, status=503)) as engine, asking() as (wiring, _):
        wiring.follow((worker(engine),))
        (task,) = wiring._asking.values()
        await eventually(lambda: engine.seen)
        wiring.follow(())
        await eventually(task.cancelled)

import time

import aiohttp
import pytest
import zmq.asyncio
from engine_pods import engine_pod
from kvpool_router.audit.auditor import Audit
from kvpool_router.breaker import FAILURES_TO_OPEN, Breaker
from kvpool_router.calibration import Calibration
from kvpool_router.engine_metrics import EngineMetrics, Reading
from kvpool_router.event_metrics import EventMetrics
from kvpool_router.events.follower import Rhythm
from kvpool_router.events.plane import EventPlane
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.liveness import Liveness
from kvpool_router.load import Load
from kvpool_router.membership.pods import members_of
from kvpool_router.metrics import RequestMetrics
from kvpool_router.pool import Pool
from kvpool_router.workers import Roster, WorkerId
from prometheus_client import CollectorRegistry

WORKER = WorkerId("a", 0)
TEXT = Namespace(None, None)


class World:
    """A pool without its router."""

    def __init__(self, context: zmq.asyncio.Context, session: aiohttp.ClientSession) -> None:
        cache = CacheMap(16, 60.0, None)
        plane = EventPlane(
            cache,
            context,
            monotonic=time.monotonic,
            wall_clock=time.time,
            rhythm=Rhythm(),
            observer=EventMetrics(CollectorRegistry()),
        )
        requests = RequestMetrics(CollectorRegistry())
        audit = Audit(cache, plane)
        self.pool = Pool(Roster(), cache, plane, Load(Calibration()), Breaker(), requests, audit)
        self.metrics = EngineMetrics(session, time.monotonic, 5.0, self.pool.read, Liveness(self.pool.roster))

    def take(self, *pods: object) -> None:
        self.pool.take(members_of(pods).workers, self.metrics)


@pytest.fixture
async def world():
    context = zmq.asyncio.Context()
    async with aiohttp.ClientSession() as session:
        world = World(context, session)
        yield world
        await world.metrics.close()
        await world.pool.plane.close()
    context.destroy(linger=0)


def dead_pod(**changes: object) -> dict[str, object]:
    return engine_pod("a", ip="127.0.0.1", http_port=1, events_port=None, replay_port=None, **changes)


async def test_a_worker_that_is_gone_leaves_nothing_behind(world):
    pool = world.pool
    world.take(dead_pod())
    pool.load.sent(WORKER, 100, 0, streams=True, now=1.0)
    pool.requests.retried(WORKER, "it died")
    world.take()
    assert pool.load.in_flight(WORKER) == 0
    assert pool.requests.retried_from == {}
    assert pool.plane.standing(WORKER) is None


@pytest.mark.parametrize(("restarts", "remembered"), [(0, True), (1, False)])
async def test_only_another_process_closes_an_open_circuit(world, restarts, remembered):
    world.take(dead_pod())
    for _ in range(FAILURES_TO_OPEN):
        world.pool.breaker.failed(WORKER, 1.0)
    world.take(dead_pod(restarts=restarts))
    assert world.pool.breaker.is_open(WORKER) is remembered


async def test_a_readings_capacity_bounds_the_history_to_two_caches(world):
    world.take(dead_pod())
    first, *others = (bytes([block]) * 64 + b"tail" for block in range(6))
    world.pool.cache.sent(WORKER, first, TEXT, 0.0)
    world.pool.read(WORKER, Reading(cache_tokens=16))
    for prompt in others:
        world.pool.cache.sent(WORKER, prompt, TEXT, 0.0)
    assert WORKER not in world.pool.cache.match(first, TEXT, 1000.0)
    assert world.pool.cache.match(others[-1], TEXT, 1000.0)[WORKER].history_tokens == 16


async def test_what_exceeds_our_own_requests_is_foreign_load(world):
    world.take(dead_pod())
    world.pool.read(WORKER, Reading(running=5, waiting=3, read_at=1.0))
    assert world.pool.load.standing(WORKER, 1.0).running == 5
    world.pool.read(WORKER, Reading(kv_usage_percent=1.0))
    assert world.pool.load.standing(WORKER, 1.0).running == 5

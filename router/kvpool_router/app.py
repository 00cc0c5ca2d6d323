"""The one place that knows every part of the router: makes them, joins them, runs them, ends them."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
import zmq.asyncio
from fastapi import FastAPI
from kvpool_api.wire import RouterConfig
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from kvpool_router.adapters import Adapters
from kvpool_router.admin import build_admin
from kvpool_router.asgi import ASGIApp
from kvpool_router.audit.auditor import Audit
from kvpool_router.breaker import Breaker
from kvpool_router.calibration import Calibration
from kvpool_router.decisions import DecisionLog
from kvpool_router.deps import DoorDeps
from kvpool_router.door import build_door
from kvpool_router.engine_metrics import EngineMetrics
from kvpool_router.engine_wiring import EngineWiring
from kvpool_router.event_metrics import EventMetrics
from kvpool_router.events.follower import Rhythm
from kvpool_router.events.plane import EventPlane
from kvpool_router.front import build_front
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.liveness import Liveness
from kvpool_router.load import Load
from kvpool_router.loading import LoadingTokenizer
from kvpool_router.membership.protocol import Membership
from kvpool_router.metrics import RequestMetrics, WorkerMetrics
from kvpool_router.pool import Pool
from kvpool_router.proxy import CONNECT_TIMEOUT_S, IDLE_CONNECTION_S, Engines
from kvpool_router.readiness import Readiness
from kvpool_router.score import STRATEGIES
from kvpool_router.serve import Server, serve_until_told
from kvpool_router.settings import Settings
from kvpool_router.shared_address import stand_at
from kvpool_router.siblings import snapshot
from kvpool_router.siblings.arrival import Arrival, Entrance
from kvpool_router.siblings.asking import Ask
from kvpool_router.siblings.following import Siblings
from kvpool_router.siblings.giving import told_bookings
from kvpool_router.siblings.ledger import Ledger
from kvpool_router.siblings.outbox import Outbox
from kvpool_router.state import StateReport
from kvpool_router.tasks import stop
from kvpool_router.tokens.canary import Canary
from kvpool_router.tokens.choose import choose_tokenizer, pauses_s
from kvpool_router.tokens.engine_ids import EngineIds
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.faithful import FaithfulTokenizer
from kvpool_router.tokens.hub import model_hub
from kvpool_router.tokens.protocol import Tokenizer
from kvpool_router.workers import Roster, RouterPod, Worker

SYNC_LOOK_S = 0.005
"""How often a router that begins looks whether its map counts."""


@dataclass(frozen=True, slots=True)
class Router:
    """A router whose background work runs; what remains is to serve its two apps."""

    front: ASGIApp
    """For the http port."""
    admin: FastAPI
    """For the admin port."""
    readiness: Readiness
    outbox: Outbox
    following: asyncio.Task[None]
    """Follows membership; never ends by itself."""

    def stop(self) -> None:
        """The process is told to end."""
        self.readiness.stop()
        self.outbox.finish()


async def run_router(settings: Settings, sockets: tuple[socket.socket, socket.socket]) -> None:
    """Serves on the http and the admin socket until the process is told to end."""
    async with open_router(settings) as router:
        http, admin = Server(router.front, settings.shutdown_s), Server(router.admin, settings.shutdown_s)
        async with _running(stand_at(settings.shared, http, admin)) as standing:

            def stopping() -> None:
                router.stop()
                standing.cancel()

            router.following.add_done_callback(lambda _: standing.cancel())
            await serve_until_told(http, admin, sockets, stopping, router.following)


@asynccontextmanager
async def open_router(settings: Settings) -> AsyncIterator[Router]:
    """Begins to follow the pool and its events; on leaving, everything that was begun has ended."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(_session())
        parts = await stack.enter_async_context(_parts(settings, session))
        engines = partial(EngineTokenizer, EngineIds(session), parts.ready_url)
        loading = LoadingTokenizer(engines("the model's own is being loaded"))
        chosen = choose_tokenizer(settings.tokenizer, engines, model_hub(), pauses_s(random.SystemRandom()))
        readiness = _readiness(settings, parts, lambda: loading.settled)
        await stack.enter_async_context(_running(loading.follow(_tried_on(parts.canary, chosen))))
        following = await stack.enter_async_context(_running(_follow(settings.membership, parts, readiness)))
        tokenizer = FaithfulTokenizer(loading, parts.canary, engines)
        yield _router(settings, parts, tokenizer, readiness, following)


def _session() -> aiohttp.ClientSession:
    """A client without limits of its own: the engines' queues are the limit, and a stream lasts as long as it likes."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_S, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What holds the router's state, joined to the pool but not yet to requests."""

    pool: Pool
    metrics: EngineMetrics
    wiring: EngineWiring
    canary: Canary
    registry: CollectorRegistry
    decisions: DecisionLog
    engines: Engines
    adapters: Adapters
    outbox: Outbox
    siblings: Siblings
    arrival: Arrival
    entrance: Entrance

    def ready_url(self) -> str | None:
        """Some engine that takes requests now."""
        return next((worker.url for worker in self.pool.roster.accepting()), None)

    def synced(self, worker: Worker) -> bool:
        standing = self.pool.plane.standing(worker.id)
        return standing is not None and standing.synced


@asynccontextmanager
async def _parts(settings: Settings, session: aiohttp.ClientSession) -> AsyncIterator[_Parts]:
    config = settings.config
    registry = _registry()
    cache = CacheMap(config.block_tokens, config.prediction_ttl_s, None)
    context = zmq.asyncio.Context()
    plane = EventPlane(
        cache,
        context,
        monotonic=time.monotonic,
        wall_clock=time.time,
        rhythm=Rhythm(),
        observer=EventMetrics(registry),
    )
    audit = Audit(cache, plane)
    pool = Pool(Roster(), cache, plane, Load(Calibration()), Breaker(), RequestMetrics(registry), audit)
    engines = Engines(Liveness(pool.roster))
    metrics = EngineMetrics(session, time.monotonic, config.metrics_interval_s, pool.read, engines.liveness)
    adapters = Adapters(session, time.monotonic, pool.roster)
    wiring, canary = EngineWiring(session, plane.wired), Canary(EngineIds(session))
    ledger = partial(Ledger, pool.load, cache, pool.roster.process_of)
    ask = Ask(session, settings.admin_token)
    siblings = Siblings(settings.router, ask, ledger, time.monotonic)
    arrival = Arrival(ask, cache, plane, time.monotonic, config.sync_timeout_s)
    decisions = DecisionLog(config.strategy, config.kept_decisions)
    try:
        outbox, entrance = Outbox(), Entrance()
        yield _Parts(
            pool, metrics, wiring, canary, registry, decisions, engines, adapters, outbox, siblings, arrival, entrance
        )
    finally:
        await siblings.close()
        await asyncio.gather(metrics.close(), wiring.close(), canary.close(), adapters.close())
        await plane.close()
        engines.close()
        context.destroy(linger=0)


def _router(
    settings: Settings,
    parts: _Parts,
    tokenizer: Tokenizer,
    readiness: Readiness,
    following: asyncio.Task[None],
) -> Router:
    pool = parts.pool
    report = StateReport(
        settings.router,
        tokenizer,
        pool,
        parts.metrics,
        readiness,
        parts.decisions,
        parts.engines.liveness,
        parts.siblings,
        parts.arrival,
        time.monotonic,
        parts.canary,
    )
    parts.registry.register(WorkerMetrics(report.state, pool.requests, lambda: settings.membership.trouble))
    door = build_door(_door_deps(settings.config, parts, tokenizer))
    return Router(
        build_front(readiness.judge, parts.registry, door),
        build_admin(
            report.state,
            parts.decisions,
            settings.router,
            settings.admin_token,
            partial(told_bookings, parts.outbox),
            partial(snapshot.told, pool.plane, pool.cache, pool.audit.is_trusted),
            lambda: readiness.settled,
        ),
        readiness,
        parts.outbox,
        following,
    )


def _readiness(settings: Settings, parts: _Parts, tokenizer_settled: Callable[[], bool]) -> Readiness:
    return Readiness(
        parts.pool.roster,
        parts.synced,
        tokenizer_settled,
        lambda: settings.membership.trouble,
        time.monotonic,
        settings.config.sync_timeout_s,
    )


def _door_deps(config: RouterConfig, parts: _Parts, tokenizer: Tokenizer) -> DoorDeps:
    pool = parts.pool
    return DoorDeps(
        names=tuple(config.served_names) or (config.model,),
        adapters=parts.adapters,
        max_body_bytes=config.max_body_bytes,
        roster=pool.roster,
        tokenizer=tokenizer,
        cache=pool.cache,
        audit=pool.audit,
        load=pool.load,
        outbox=parts.outbox,
        strategy=STRATEGIES[config.strategy](random.SystemRandom().getrandbits(32)),
        breaker=pool.breaker,
        engines=parts.engines,
        decisions=parts.decisions,
        observer=pool.requests,
        misread=lambda: parts.canary.misread,
        entrance=parts.entrance,
        clock=time.monotonic,
        wall_clock=time.time,
    )


async def _follow(membership: Membership, parts: _Parts, readiness: Readiness) -> None:
    """Takes a sibling's map before any worker is followed; requests wait until it counts, or the time for it is up."""
    has_arrived = False
    async with AsyncExitStack() as stack:
        async for workers, routers in membership.snapshots():
            if not has_arrived:
                has_arrived = True
                if siblings := parts.siblings.among(routers):
                    parts.entrance.close()
                    await stack.enter_async_context(_running(_open(parts.entrance, readiness)))
                await parts.arrival.take(siblings)
            _take(workers, routers, parts)


def _take(workers: tuple[Worker, ...], routers: tuple[RouterPod, ...], parts: _Parts) -> None:
    parts.pool.take(workers, parts.metrics)
    parts.wiring.follow(workers)
    parts.siblings.follow(routers)
    parts.canary.follow(workers)


async def _open(entrance: Entrance, readiness: Readiness) -> None:
    while not readiness.settled:
        readiness.judge()
        await asyncio.sleep(SYNC_LOOK_S)
    entrance.open()


async def _tried_on(canary: Canary, chosen: AsyncIterator[Tokenizer]) -> AsyncIterator[Tokenizer]:
    async for tokenizer in chosen:
        canary.use(tokenizer)
        yield tokenizer


def _registry() -> CollectorRegistry:
    """A registry of this router alone, with the process's own figures in it."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs the work beside the block."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await stop(task)

"""A door on a real socket before tiny engines, with everything else of a router real but the clock's owner."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp
import uvicorn
from kvpool_api.spec import Strategy as StrategyName
from kvpool_api.wire import UntokenizedCause
from kvpool_router.adapters import Adapters
from kvpool_router.asgi import ASGIApp
from kvpool_router.audit.auditor import Audit
from kvpool_router.breaker import Breaker
from kvpool_router.calibration import Calibration
from kvpool_router.decisions import DecisionLog, Record
from kvpool_router.door import DoorDeps, build_door
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.liveness import Liveness
from kvpool_router.load import Load
from kvpool_router.pick import Holding
from kvpool_router.proxy import Engines
from kvpool_router.requests.prompts import TokenIds, token_count
from kvpool_router.score import STRATEGIES
from kvpool_router.siblings.arrival import Entrance
from kvpool_router.siblings.outbox import Outbox
from kvpool_router.tokens.ids_impl import IdsTokenizer
from kvpool_router.workers import Roster, Worker, WorkerId
from tiny_engine import TinyEngine

MODEL = "tiny"


class SentPrefixes:
    """A cache map without events: who was sent a prompt is predicted to hold all of it."""

    def __init__(self) -> None:
        self.prompts: list[tuple[WorkerId, TokenIds, Namespace]] = []

    def match(self, tokens: TokenIds, namespace: Namespace, now: float) -> Mapping[WorkerId, Holding]:
        held = token_count(tokens)
        return {
            worker: Holding(0, held, held, held)
            for worker, ids, there in self.prompts
            if (ids, there) == (tokens, namespace)
        }

    def sent(self, worker: WorkerId, tokens: TokenIds, namespace: Namespace, now: float) -> None:
        self.prompts.append((worker, tokens, namespace))

    def unsent(self, worker: WorkerId, tokens: TokenIds, namespace: Namespace) -> None:
        self.prompts.remove((worker, tokens, namespace))

    def settle(self) -> None:
        pass


class NoEvents:
    """An event plane that follows nobody."""

    def standing(self, worker: WorkerId) -> None:
        return None

    def begin_again(self, worker: WorkerId, *, whole: bool) -> None:
        raise AssertionError("there is nothing to begin again")


@dataclass
class Noted:
    """What the door told its observer."""

    placed_seconds: list[float] = field(default_factory=list)
    retries: list[tuple[WorkerId, str]] = field(default_factory=list)
    opaque_prompts: list[tuple[str, UntokenizedCause]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    refusals: list[tuple[str, int]] = field(default_factory=list)

    def placed(self, record: Record, seconds: float) -> None:
        self.placed_seconds.append(seconds)

    def retried(self, worker: WorkerId, why: str) -> None:
        self.retries.append((worker, why))

    def opaque(self, path: str, cause: UntokenizedCause) -> None:
        self.opaque_prompts.append((path, cause))

    def finished(self, record: Record) -> None:
        self.records.append(record)

    def refused(self, path: str, status: int) -> None:
        self.refusals.append((path, status))


@dataclass
class DoorWorld:
    """One running door."""

    url: str
    deps: DoorDeps
    noted: Noted
    client: aiohttp.ClientSession

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, bytes]:
        async with self.client.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def finished(self, count: int = 1) -> list[Record]:
        """The records of the first `count` requests that have ended."""
        await until(lambda: len(self.noted.records) >= count)
        return self.noted.records


async def until(holds: "object", deadline_s: float = 5.0) -> None:
    """Polls a condition; fails when it does not come to hold in time."""
    end = time.monotonic() + deadline_s
    while not holds():  # type: ignore[operator]
        if time.monotonic() > end:
            raise AssertionError("the condition did not come to hold")
        await asyncio.sleep(0.005)


def worker(name: str, url: str = "http://127.0.0.1:9", *, rank: int = 0) -> Worker:
    return Worker(
        WorkerId(name, rank), "uid-" + name, 0, url, None, None, ready=True, draining=False, terminating=False
    )


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Runs an ASGI app as in production, on a free loopback port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve([listener]))
    try:
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def door(
    engines: Sequence[TinyEngine | Worker], *, strategy: StrategyName = StrategyName.ROUND_ROBIN, **changes: object
) -> AsyncIterator[DoorWorld]:
    """A door before these engines; `changes` replace single dependencies."""
    noted = Noted()
    roster = Roster()
    roster.replace(
        tuple(each if isinstance(each, Worker) else worker(f"e{i}", each.url) for i, each in enumerate(engines))
    )
    async with aiohttp.ClientSession() as client:
        deps = DoorDeps(
            names=(MODEL, "alias"),
            adapters=Adapters(client, time.monotonic, roster),
            max_body_bytes=1 << 20,
            roster=roster,
            tokenizer=IdsTokenizer("a test"),
            cache=SentPrefixes(),
            audit=Audit(CacheMap(16, 60.0, None), NoEvents()),
            load=Load(Calibration()),
            outbox=Outbox(),
            strategy=STRATEGIES[strategy](0),
            breaker=Breaker(),
            engines=Engines(Liveness(roster)),
            decisions=DecisionLog(strategy),
            observer=noted,
            entrance=Entrance(),
        )
        deps = replace(deps, **changes)  # type: ignore[arg-type]
        async with serving(build_door(deps)) as url:
            yield DoorWorld(url, deps, noted, client)
        deps.engines.close()

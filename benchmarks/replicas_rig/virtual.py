"""Routers and engines in virtual time: the router's own map, books and strategy, the simulator's own engines."""

import heapq
import statistics
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random
from typing import NamedTuple

from kvpool_router.calibration import Calibration
from kvpool_router.events.wire import BlockRemoved, BlockStored, KvEvent, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load, Ticket
from kvpool_router.pick import views
from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.protocol import RequestView
from kvpool_router.siblings.deeds import Deed, Done, FirstToken, Sent
from kvpool_router.siblings.ledger import Ledger
from kvpool_router.workers import Incarnation, Worker, WorkerId
from kvpool_sim.core import events as sim_events
from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.engine import EngineCore, Limits, Step
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import Timing, row_for

from benchmarks.replicas_rig.traffic import Traffic, percent

BLOCK_TOKENS = 16
EVENT_DELAY_S = 0.002
DEED_DELAY_S = 0.005
OUTPUT_TOKENS = 32
PLAIN = Namespace()
PROCESS = Incarnation("uid", 0)


class Found(NamedTuple):
    """Of the counted requests of one world."""

    hit_percent: float
    ttft_mean_ms: float
    ttft_p90_ms: float


@dataclass(eq=False)
class _Asked:
    """One request on its way."""

    request: EngineRequest
    worker: WorkerId
    ticket: Ticket
    number: int
    arrived_at: float
    has_begun: bool = False


class _Router:
    def __init__(self, workers: list[WorkerId], history_tokens: int, seed: int, *, tells: bool) -> None:
        self.load = Load(Calibration())
        self.cache = CacheMap(BLOCK_TOKENS, 60.0, history_tokens)
        self.ledgers: dict[int, Ledger] = {}
        self.strategy = CacheAware(seed)
        self.tells = tells
        self._pool = [Worker(each, *PROCESS, "", None, None, True, False, False) for each in workers]

    def ledger(self, sibling: int) -> Ledger:
        if sibling not in self.ledgers:
            self.ledgers[sibling] = Ledger(self.load, self.cache, lambda _: PROCESS)
        return self.ledgers[sibling]

    def choose(self, tokens: bytes, now: float) -> tuple[WorkerId, int]:
        """The worker, and how many tokens it is expected to have."""
        seen = views(self._pool, self.load, self.cache.match(tokens, PLAIN, now), now)
        chosen = self.strategy(RequestView(len(tokens) // 4), seen, now).position
        return self._pool[chosen].id, seen[chosen].predicted_tokens


class World:
    """Open loop: each arrival at the next router in turn."""

    def __init__(
        self, routers: int, engines: int, cache_blocks: int, traffic: Traffic, per_s: float, *, tells: bool = True
    ) -> None:
        self._workers = [WorkerId(f"e{number}", 0) for number in range(engines)]
        timing: Timing = row_for("meta-llama/Llama-3.1-8B-Instruct", 1)
        self._engines = {
            each: EngineCore(timing, BlockPool(cache_blocks, BLOCK_TOKENS), Limits(), lambda _: 7)
            for each in self._workers
        }
        self._routers = [
            _Router(self._workers, 2 * cache_blocks * BLOCK_TOKENS, seed, tells=tells) for seed in range(routers)
        ]
        self._busy: set[WorkerId] = set()
        self._asked: dict[int, tuple[int, _Asked]] = {}
        self._traffic = traffic.prompts()
        self._draw = Random(traffic.seed)
        self._per_s = per_s
        self._order = count()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._ttft_s: dict[int, float] = {}

    def found(self, warm_up: int, counted: int) -> Found:
        """Of the `counted` requests after the first `warm_up`."""
        arrives, asked = 0.0, []
        for number, tokens in enumerate(islice(self._traffic, warm_up + counted)):
            arrives += self._draw.expovariate(self._per_s)
            request = EngineRequest(tokens, len(tokens), OUTPUT_TOKENS)
            asked.append(request)
            self._at(arrives, lambda now, number=number, request=request: self._arrive(number, request, now))
        while self._due:
            now, _, event = heapq.heappop(self._due)
            event(now)
        late = asked[warm_up:]
        hit = percent(sum(each.cached_tokens or 0 for each in late), sum(each.prompt_tokens for each in late))
        ttft_s = sorted(seconds for number, seconds in self._ttft_s.items() if number >= warm_up)
        return Found(hit, 1000 * statistics.mean(ttft_s), 1000 * ttft_s[int(0.9 * (len(ttft_s) - 1))])

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), event))

    def _arrive(self, number: int, request: EngineRequest, now: float) -> None:
        at = number % len(self._routers)
        router, tokens = self._routers[at], request.tokens.tobytes()
        worker, held = router.choose(tokens, now)
        router.cache.sent(worker, tokens, PLAIN, now)
        ticket = router.load.sent(worker, request.prompt_tokens, held, streams=True, now=now)
        self._asked[id(request)] = (at, _Asked(request, worker, ticket, number, now))
        self._tell(at, Sent(number, worker, PROCESS, request.prompt_tokens, held, 0, True, True, (tokens,), PLAIN), now)
        self._engines[worker].submit(request)
        self._step(worker, now)

    def _tell(self, at: int, deed: Deed, now: float) -> None:
        for other, router in enumerate(self._routers):
            if other != at and router.tells:
                self._at(now + DEED_DELAY_S, lambda then, router=router: router.ledger(at).take(deed, then))

    def _step(self, worker: WorkerId, now: float) -> None:
        engine = self._engines[worker]
        if worker in self._busy or (step := engine.schedule()) is None:
            return
        self._busy.add(worker)
        self._publish(worker, now)
        self._at(now + step.duration_s, lambda then: self._complete(worker, step, then))

    def _complete(self, worker: WorkerId, step: Step, now: float) -> None:
        self._busy.discard(worker)
        for request in self._engines[worker].complete(step):
            at, asked = self._asked[id(request)]
            load = self._routers[at].load
            if not asked.has_begun:
                asked.has_begun = True
                self._ttft_s[asked.number] = now - asked.arrived_at
                load.first_token(asked.ticket, now)
                self._tell(at, FirstToken(asked.number), now)
            if request.finished is not None:
                del self._asked[id(request)]
                load.done(asked.ticket, now, output_tokens=request.output_tokens)
                self._tell(at, Done(asked.number, computed=True), now)
        self._publish(worker, now)
        self._step(worker, now)

    def _publish(self, worker: WorkerId, now: float) -> None:
        if told := list(_on_the_wire(self._engines[worker].take_events())):
            for router in self._routers:
                self._at(now + EVENT_DELAY_S, lambda _, router=router: router.cache.apply(worker, told))


def _on_the_wire(events: list[sim_events.KvEvent]) -> Iterator[KvEvent]:
    for event in events:
        match event:
            case sim_events.BlockStored():
                ids = TokenIds(array("I", event.token_ids).tobytes())
                yield BlockStored(list(event.hashes), event.parent, ids, BLOCK_TOKENS, medium="GPU")
            case sim_events.BlockRemoved():
                yield BlockRemoved(list(event.hashes), medium="GPU")

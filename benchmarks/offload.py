"""What is it worth to know which prompts an engine could load from main memory?

python -m benchmarks.offload [--quick] [--json]

Four simulated engines on a clock of their own (Qwen3 32B on two H100 each) whose GPUs hold a quarter of the prompts
that come again and again, and whose main memory holds them all: prefixes of 6,144 tokens, each with 256 tokens of its
own. The router's own map, loads and strategy place them; events reach the map 5 ms after each step, as vLLM encodes
them. Both sides see the same arrivals, a few seconds of one after a few of the other: credited knows what could be
loaded, uncredited knows GPUs (and what went where before), as a map without tiers does. Engines load on both sides.
"""

import argparse
import heapq
import json
import random
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import mean

from kvpool_router.calibration import Calibration
from kvpool_router.events.wire import decode
from kvpool_router.index.answers import Held
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load, Ticket
from kvpool_router.pick import holdings, views
from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.protocol import RequestView
from kvpool_router.workers import Worker, WorkerId
from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.cpu_tier import CpuTier
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import ROWS
from kvpool_sim.publisher import payload
from rich.console import Console
from rich.table import Table

BLOCK, ENGINES = 16, 4
PREFIX_TOKENS, QUESTION_TOKENS, OUTPUT_TOKENS, PREFIXES = 6_144, 256, 32, 120
GPU_BLOCKS, CPU_BLOCKS = 3_000, 30_000
ARRIVALS_A_SECOND = 5.0
EVENT_LAG_S, ANSWER_LAG_S, SLICE_S = 0.005, 0.001, 5.0
WARM_UP_S, MEASURED_S, QUICK_S = 120.0, 600.0, 120.0
PLAIN = Namespace(None, None)
Seen = Callable[[Mapping[WorkerId, Held]], Mapping[WorkerId, Held]]


def credited(held: Mapping[WorkerId, Held]) -> Mapping[WorkerId, Held]:
    """All that the map says."""
    return held


def uncredited(held: Mapping[WorkerId, Held]) -> Mapping[WorkerId, Held]:
    """GPUs alone."""
    return {worker: each._replace(reachable_tokens=each.predicted_tokens) for worker, each in held.items()}


@dataclass(slots=True, eq=False)
class Engine:
    worker: Worker
    core: EngineCore
    busy: bool = False


@dataclass(slots=True, eq=False)
class Asked:
    request: EngineRequest
    ticket: Ticket
    predicted: int
    arrived_at: float
    ttft_s: float = 0.0


@dataclass(slots=True)
class World:
    """Arrivals, steps and events of one side on one virtual clock."""

    seen: Seen
    seed: int
    now: float = 0.0
    answered: list[Asked] = field(default_factory=list)
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _asked: dict[EngineRequest, Asked] = field(default_factory=dict)
    _number: int = 0
    engines: dict[WorkerId, Engine] = field(init=False)
    _cache: CacheMap = field(init=False)
    _load: Load = field(init=False)
    _strategy: CacheAware = field(init=False)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._cache = CacheMap(BLOCK, 60.0, 2 * GPU_BLOCKS * BLOCK)
        self._load, self._strategy = Load(Calibration()), CacheAware(self.seed)
        self._rng = random.Random(self.seed)
        self.engines = {each.worker.id: each for each in map(_engine, range(ENGINES))}
        self._at(0.0, self._arrive)

    def run_until(self, end: float) -> None:
        while self._agenda[0][0] <= end:
            self.now, _, do = heapq.heappop(self._agenda)
            do()

    def _at(self, when: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, do))

    def _arrive(self) -> None:
        self._at(self.now + self._rng.expovariate(ARRIVALS_A_SECOND), self._arrive)
        tokens = _prompt(self._rng)
        ids, count = tokens.tobytes(), len(tokens)
        held = self.seen(self._cache.match(ids, PLAIN, self.now))
        pool = [engine.worker for engine in self.engines.values()]
        seen = views(pool, self._load, holdings([held]), self.now)
        chosen = seen[self._strategy(RequestView(count), seen, self.now).position]
        self._cache.sent(chosen.id, ids, PLAIN, self.now)
        reach = chosen.reachable_tokens
        loaded = reach - chosen.predicted_tokens
        ticket = self._load.sent(chosen.id, count, reach, streams=True, now=self.now, loaded_tokens=loaded)
        request = EngineRequest(tokens, count, OUTPUT_TOKENS)
        self._asked[request] = Asked(request, ticket, reach, self.now)
        engine = self.engines[chosen.id]
        engine.core.submit(request)
        self._step(engine)

    def _step(self, engine: Engine) -> None:
        if engine.busy or (step := engine.core.schedule()) is None:
            return
        engine.busy = True

        def complete() -> None:
            engine.busy = False
            for request in engine.core.complete(step):
                self._tell(request)
            self._publish(engine)
            self._step(engine)

        self._at(self.now + step.duration_s, complete)

    def _tell(self, request: EngineRequest) -> None:
        asked = self._asked[request]
        if request.output_tokens == 1:
            asked.ttft_s = self.now + ANSWER_LAG_S - asked.arrived_at
            self._at(self.now + ANSWER_LAG_S, lambda: self._load.first_token(asked.ticket, self.now))
        if request.finished is not None:
            self.answered.append(self._asked.pop(request))
            self._at(self.now + ANSWER_LAG_S, lambda: self._done(asked))

    def _done(self, asked: Asked) -> None:
        self._load.done(asked.ticket, self.now, output_tokens=OUTPUT_TOKENS)

    def _publish(self, engine: Engine) -> None:
        if events := engine.core.take_events():
            batch = payload(self.now, events, 0, BLOCK)
            self._at(self.now + EVENT_LAG_S, lambda: self._apply(engine.worker.id, batch))

    def _apply(self, worker: WorkerId, batch: bytes) -> None:
        self._cache.apply(worker, decode(batch).events)
        self._cache.settle()


def _engine(number: int) -> Engine:
    worker = Worker(WorkerId(f"engine-{number}", 0), "u", 0, "", "", "", ready=True, draining=False, terminating=False)
    pool, below = BlockPool(GPU_BLOCKS + 1, BLOCK), CpuTier(CPU_BLOCKS)
    core = EngineCore(ROWS["h100-qwen3-32b-tp2"], pool, Limits(), lambda request: len(request.tokens), below)
    return Engine(worker, core)


def _prompt(rng: random.Random) -> "array[int]":
    prefix = rng.randrange(PREFIXES)
    begin = array("I", range(prefix * PREFIX_TOKENS, (prefix + 1) * PREFIX_TOKENS))
    begin.extend(rng.randrange(2**20, 2**21) for _ in range(QUESTION_TOKENS))
    return begin


def figures(side: str, world: World) -> dict[str, float]:
    """Of requests that came after the warm-up."""
    counted = [each for each in world.answered if each.arrived_at >= WARM_UP_S]
    cached = [each.request.cached_tokens or 0 for each in counted]
    ttfts = sorted(each.ttft_s for each in counted)
    right = sum(each.predicted == found for each, found in zip(counted, cached, strict=True))
    return {
        f"{side}_requests": len(counted),
        f"{side}_hit_percent": 100 * sum(cached) / sum(each.request.prompt_tokens for each in counted),
        f"{side}_ttft_mean_ms": 1e3 * mean(ttfts),
        f"{side}_ttft_p90_ms": 1e3 * ttfts[int(0.9 * len(ttfts))],
        f"{side}_predicted_equals_cached_percent": 100 * right / len(counted),
    }


def measure(quick: bool) -> dict[str, float]:
    """Figures by name, both sides over the same arrivals."""
    sides = {"credited": World(credited, 1), "uncredited": World(uncredited, 1)}
    end = WARM_UP_S + (QUICK_S if quick else MEASURED_S)
    for begin in range(0, int(end), int(SLICE_S)):
        for world in sides.values():
            world.run_until(begin + SLICE_S)
    found: dict[str, float] = {}
    for side, world in sides.items():
        found |= figures(side, world)
    found["ratio_ttft_mean_uncredited_to_credited"] = found["uncredited_ttft_mean_ms"] / found["credited_ttft_mean_ms"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two measured minutes of virtual time instead of ten")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    found = measure(options.quick)
    table = Table("", "credited", "uncredited", title="CPU hits, four engines, prompts four times the GPUs' caches")
    for name in ("requests", "hit_percent", "ttft_mean_ms", "ttft_p90_ms", "predicted_equals_cached_percent"):
        table.add_row(name, *(f"{found[f'{side}_{name}']:,.1f}" for side in ("credited", "uncredited")))
    Console().print(table)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

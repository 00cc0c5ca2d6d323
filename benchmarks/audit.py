"""How soon is a wrong map found, what does it cost until then, and is a true one ever blamed?

python -m benchmarks.audit [--quick] [--json]

Four simulated engines on a clock of their own (Llama 3.1 8B on an H100), each with a cache of 2,000 blocks that always
evicts: conversations of 24 families with 60 shared blocks and turns of 20, a quarter of the families with a cache salt.
The router's own map, strategy and audit place them; events reach the map 5 ms after each step, as vLLM encodes them.
The honest run lies nowhere. In each other run one engine's publisher begins to lie after a while, for ever: answers
until it is found are that engine's, from then on; requests count as misled if the map was wrong about their engine's
cache (outcomes `false` and `missed`) while it was given credit.
"""

import argparse
import heapq
import json
import random
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kvpool_api.wire import EventState, MapTrust
from kvpool_router.audit.auditor import Audit, Case
from kvpool_router.audit.comparison import Outcome
from kvpool_router.calibration import Calibration
from kvpool_router.events.wire import decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load, Ticket
from kvpool_router.pick import holdings, views
from kvpool_router.requests.usage import Usage
from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.protocol import RequestView
from kvpool_router.workers import Worker, WorkerId
from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.events import BlockStored, KvEvent
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import ROWS
from kvpool_sim.faults import with_wrong_tokens, without_removals
from kvpool_sim.publisher import payload
from rich.console import Console
from rich.table import Table

BLOCK = 16
ENGINES, CACHE_BLOCKS = 4, 2_000
FAMILIES, SHARED_BLOCKS, TURN_BLOCKS, TURNS = 24, 60, 20, 6
ARRIVALS_A_SECOND = 24.0
EVENT_LAG_S, ANSWER_LAG_S = 0.005, 0.001
BUFFERED_BATCHES = 10_000
HONEST_ANSWERS, LYING_ANSWERS, BEFORE_LIES = 100_000, 6_000, 800
VOCABULARY = 100_000
Lie = Callable[[Sequence[KvEvent]], Sequence[KvEvent]]


def without_salts(events: Sequence[KvEvent]) -> Sequence[KvEvent]:
    """As an engine that does not tell the salt of a prompt."""
    return [
        replace(event, extra_keys=(None,) * len(event.hashes)) if isinstance(event, BlockStored) else event
        for event in events
    ]


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: array  # type: ignore[type-arg]
    salt: str | None


def conversations(rng: random.Random, salted_every: int) -> Iterator[Prompt]:
    """Turns of many conversations, mixed; each goes on from what it said before."""
    shared = [array("I", (rng.randrange(VOCABULARY) for _ in range(SHARED_BLOCKS * BLOCK))) for _ in range(FAMILIES)]
    going: list[tuple[array, int, str | None]] = []  # type: ignore[type-arg]
    while True:
        if len(going) < 2 * FAMILIES or rng.random() < 1 / TURNS:
            family = rng.randrange(FAMILIES)
            going.append((shared[family], 0, None if family % salted_every else f"salt {family}"))
        position = rng.randrange(len(going))
        said, turn, salt = going.pop(position)
        said = said + array("I", (rng.randrange(VOCABULARY) for _ in range(TURN_BLOCKS * BLOCK + rng.randrange(BLOCK))))
        yield Prompt(said, salt)
        if turn + 1 < TURNS:
            going.append((said, turn + 1, salt))


@dataclass(slots=True)
class Engine:
    worker: Worker
    core: EngineCore
    buffer: deque[bytes] = field(default_factory=lambda: deque(maxlen=BUFFERED_BATCHES))
    published: int = 0
    lie: Lie | None = None
    flush: bool = False
    """To be done as soon as no request uses the cache."""
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Stand:
    state: EventState
    synced: bool = True
    replaying: bool = False
    gaps: int = 0


@dataclass(slots=True)
class Plane:
    """The event plane, without sockets: what is read anew is there at once."""

    cache: CacheMap
    engines: dict[WorkerId, Engine]
    partial: set[WorkerId] = field(default_factory=set)

    def standing(self, worker: WorkerId) -> Stand:
        return Stand(EventState.DEGRADED if worker in self.partial else EventState.EXACT)

    def begin_again(self, worker: WorkerId, *, whole: bool) -> None:
        engine = self.engines[worker]
        self.cache.drop(worker)
        if not whole or engine.published > len(engine.buffer):
            self.partial.add(worker)
        for batch in engine.buffer if whole else ():
            self.cache.apply(worker, decode(batch).events)


@dataclass(slots=True, eq=False)
class Asked:
    request: EngineRequest
    ticket: Ticket
    case: Case | None
    prompt_tokens: int


class World:
    """Arrivals, steps and events on one virtual clock."""

    def __init__(self, seed: int, salted_every: int = 4) -> None:
        self.now = 0.0
        self.cache = CacheMap(BLOCK, 60.0, 2 * CACHE_BLOCKS * BLOCK)
        self.engines = {}
        for number in range(ENGINES):
            worker = Worker(
                WorkerId(f"engine-{number}", 0), "u", 0, "", "", "", ready=True, draining=False, terminating=False
            )
            pool = BlockPool(CACHE_BLOCKS + 1, BLOCK)
            core = EngineCore(ROWS["h100-llama-3.1-8b-tp1"], pool, Limits(), lambda request: len(request.tokens))
            self.engines[worker.id] = Engine(worker, core)
        self.audit = Audit(self.cache, Plane(self.cache, self.engines))
        self.load, self.strategy = Load(Calibration()), CacheAware(seed)
        self.answers: dict[WorkerId, int] = dict.fromkeys(self.engines, 0)
        self._rng = random.Random(seed)
        self._prompts = conversations(self._rng, salted_every)
        self._asked: dict[EngineRequest, Asked] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._at(0.0, self._arrive)

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self.now, _, do = heapq.heappop(self._agenda)
            do()

    def _at(self, when: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, do))

    def _arrive(self) -> None:
        self._at(self.now + self._rng.expovariate(ARRIVALS_A_SECOND), self._arrive)
        prompt = next(self._prompts)
        ids, namespace, count = prompt.tokens.tobytes(), Namespace(None, prompt.salt), len(prompt.tokens)
        pool = [engine.worker for engine in self.engines.values()]
        seen = views(pool, self.load, holdings([self.cache.match(ids, namespace, self.now)]), self.now)
        chosen = seen[self.strategy(RequestView(count), seen, self.now).position]
        self.cache.sent(chosen.id, ids, namespace, self.now)
        ticket = self.load.sent(chosen.id, count, chosen.reachable_tokens, streams=True, now=self.now)
        case = self.audit.placed(chosen.id, ids, namespace, predicted_tokens=chosen.reachable_tokens, now=self.now)
        request = EngineRequest(array("I", prompt.tokens), count, self._rng.randint(4, 60), salt=prompt.salt)
        self._asked[request] = Asked(request, ticket, case, count)
        engine = self.engines[chosen.id]
        engine.core.submit(request)
        self._step(engine)

    def _step(self, engine: Engine) -> None:
        if engine.busy:
            return
        step = engine.core.schedule()
        if step is None:
            if engine.flush and engine.core.pool.reset():
                engine.core.take_events()
                engine.flush = False
            return
        engine.busy = True

        def complete() -> None:
            engine.busy = False
            for request in engine.core.complete(step):
                self._tell(engine, request)
            self._publish(engine)
            self._step(engine)

        self._at(self.now + step.duration_s, complete)

    def _tell(self, engine: Engine, request: EngineRequest) -> None:
        asked = self._asked[request]
        if request.output_tokens == 1:
            self._at(self.now + ANSWER_LAG_S, lambda: self._first(asked))
        if request.finished is not None:
            del self._asked[request]
            self._at(self.now + ANSWER_LAG_S, lambda: self._answered(engine, asked))

    def _first(self, asked: Asked) -> None:
        self.load.first_token(asked.ticket, self.now)
        if asked.case is not None:
            self.audit.first_token(asked.case, self.now)

    def _answered(self, engine: Engine, asked: Asked) -> None:
        self.load.done(asked.ticket, self.now, output_tokens=asked.request.output_tokens)
        self.answers[engine.worker.id] += 1
        if asked.case is not None:
            usage = Usage(asked.prompt_tokens, asked.request.output_tokens, asked.request.cached_tokens)
            self.audit.answered(asked.case, usage, self.now)

    def _publish(self, engine: Engine) -> None:
        events: Sequence[KvEvent] = engine.core.take_events()
        events = engine.lie(events) if engine.lie else events
        if events:
            batch = payload(self.now, events, 0, BLOCK)
            engine.buffer.append(batch)
            engine.published += 1
            self._at(self.now + EVENT_LAG_S, lambda: self._apply(engine, batch))

    def _apply(self, engine: Engine, batch: bytes) -> None:
        self.cache.apply(engine.worker.id, decode(batch).events)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one run."""

    answers: int
    falls: int
    outcomes: dict[Outcome, int]
    until_found: int | None = None
    misled: int = 0


def wrong(world: World, worker: WorkerId) -> int:
    outcomes = world.audit.account(worker).outcomes
    return outcomes[Outcome.FALSE] + outcomes[Outcome.MISSED]


def honest(seed: int, answers: int) -> Found:
    world = World(seed)
    world.run(lambda: sum(world.answers.values()) >= answers)
    accounts = [world.audit.account(worker) for worker in world.engines]
    told = {outcome: sum(account.outcomes[outcome] for account in accounts) for outcome in Outcome}
    return Found(sum(world.answers.values()), sum(account.opinion.falls for account in accounts), told)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one engine does, after how many answers of all, and where salts are: in one of so many families.

    Salts are lied about from the start and in all families: what continues blocks that were told with their salt
    inherits it, and prompts that a map does not know soon go to engines whose maps do.
    """

    begin: Callable[[Engine], None]
    before: int = BEFORE_LIES
    salted_every: int = 4


def lying(seed: int, answers: int, trial: Trial) -> Found:
    """One engine lies from a moment on; the others do not, and must not be blamed."""
    world = World(seed, trial.salted_every)
    world.run(lambda: sum(world.answers.values()) >= trial.before)
    liar, *others = world.engines
    trial.begin(world.engines[liar])
    before, wrong_before, end = world.answers[liar], wrong(world, liar), trial.before + answers
    until_found: int | None = None
    misled = 0
    last_wrong = wrong_before

    def ended() -> bool:
        nonlocal until_found, misled, last_wrong
        credited = world.audit.account(liar).opinion.trust is not MapTrust.DISTRUSTED
        if (now_wrong := wrong(world, liar)) != last_wrong:
            misled += (now_wrong - last_wrong) * credited
            last_wrong = now_wrong
        if until_found is None and not credited:
            until_found = world.answers[liar] - before
        return sum(world.answers.values()) >= end

    world.run(ended)
    blamed = sum(world.audit.account(worker).opinion.falls for worker in others)
    return Found(world.answers[liar] - before, blamed, dict(world.audit.account(liar).outcomes), until_found, misled)


def _lies(lie: Lie) -> Callable[[Engine], None]:
    def begin(engine: Engine) -> None:
        engine.lie = lie

    return begin


def _flush(engine: Engine) -> None:
    engine.flush = True


LIES = {
    "wrong_tokens": Trial(_lies(with_wrong_tokens)),
    "wrong_salt": Trial(_lies(without_salts), before=0, salted_every=1),
    "lost_removals": Trial(_lies(without_removals)),
    "silent_flush": Trial(_flush),
}


def measure(quick: bool) -> dict[str, float]:
    """Figures by name; the median over seeds where there are several."""
    true = honest(1, HONEST_ANSWERS // (20 if quick else 1))
    compared = sum(count for outcome, count in true.outcomes.items() if outcome is not Outcome.UNKNOWN)
    figures: dict[str, float] = {"honest_answers": true.answers, "honest_false_alarms": true.falls}
    for outcome in Outcome:
        figures[f"honest_{outcome.value}_percent"] = 100 * true.outcomes[outcome] / compared
    seeds, lying_answers = ((1,), LYING_ANSWERS // 3) if quick else ((1, 2, 3), LYING_ANSWERS)
    for name, trial in LIES.items():
        runs = [lying(seed, lying_answers, trial) for seed in seeds]
        found = [run.until_found for run in runs if run.until_found is not None]
        figures[f"{name}_found_share"] = len(found) / len(runs)
        if found:
            figures[f"{name}_answers_until_found_worst"] = max(found)
        figures[f"{name}_misled_requests_worst"] = max(run.misled for run in runs)
        figures[f"{name}_misled_percent_worst"] = max(100 * run.misled / run.answers for run in runs)
        figures[f"{name}_others_blamed"] = sum(run.falls for run in runs)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the honest answers, one seed a lie")
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    wanted = parser.parse_args()
    figures = {name: round(value, 3) for name, value in measure(wanted.quick).items()}
    table = Table("figure", "value", title="Truth audit")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if wanted.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""Strategies on idle or loaded workers, without a network: views made by hand, or by a real cache map and load."""

from dataclasses import dataclass, field

from kvpool_api.spec import Strategy as StrategyName
from kvpool_router.calibration import PRIOR, Calibration, Rates
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load, Standing, Ticket
from kvpool_router.pick import holdings, views
from kvpool_router.requests.prompts import token_count
from kvpool_router.score import STRATEGIES
from kvpool_router.score.protocol import RequestView, Strategy, WorkerView
from kvpool_router.workers import Worker, WorkerId

NAMESPACE = Namespace(None, None)


def view(
    name: str,
    *,
    held: int = 0,
    cached: int | None = None,
    history: int | None = None,
    reachable: int | None = None,
    load_s: float = 0.0,
    queued: int = 0,
    queued_tokens: int = 0,
    queued_s: float = 0.0,
    running: int = 0,
    context: int = 0,
    last_sent: float = 0.0,
    rates: Rates = PRIOR,
) -> WorkerView:
    load = Standing(queued, queued_tokens, queued_s, running, context, queued + running, last_sent)
    return WorkerView(
        WorkerId(name, 0),
        load,
        rates,
        held if cached is None else cached,
        held,
        held if history is None else history,
        held if reachable is None else reachable,
        load_s,
    )


def tokens(*ids: int) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in ids)


@dataclass
class Pool:
    """A pool of idle workers that answer when told to; time stands still unless it is moved."""

    size: int
    name: StrategyName = StrategyName.CACHE_AWARE
    seed: int = 0
    block_tokens: int = 16
    now: float = 0.0
    load: Load = field(default_factory=lambda: Load(Calibration()))

    def __post_init__(self) -> None:
        self.cache = CacheMap(self.block_tokens, 60.0, None)
        self.strategy: Strategy = STRATEGIES[self.name](self.seed)
        self.workers = [
            Worker(WorkerId(f"e{n}", 0), "u", 0, "", None, None, ready=True, draining=False, terminating=False)
            for n in range(self.size)
        ]

    def send(self, prompt: bytes) -> Ticket:
        """Places the prompt and books it, as the door does."""
        held = holdings([self.cache.match(prompt, NAMESPACE, self.now)])
        seen = views(self.workers, self.load, held, self.now)
        chosen = seen[self.strategy(RequestView(token_count(prompt)), seen, self.now).position]
        self.cache.sent(chosen.id, prompt, NAMESPACE, self.now)
        return self.load.sent(chosen.id, token_count(prompt), chosen.predicted_tokens, streams=True, now=self.now)

    def answer(self, ticket: Ticket, *, after_s: float = 0.5, output_tokens: int = 10) -> None:
        """Lets the request have its first token and end."""
        self.now += after_s
        self.load.first_token(ticket, self.now)
        self.now += after_s
        self.load.done(ticket, self.now, output_tokens=output_tokens)

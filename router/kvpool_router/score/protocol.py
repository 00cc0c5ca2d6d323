"""What a strategy is given and what it answers: data in, data out, no I/O and no clock."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kvpool_router.calibration import Rates
from kvpool_router.load import Standing
from kvpool_router.workers import WorkerId


class RequestView(NamedTuple):
    """A request as placement sees it."""

    prompt_tokens: int
    """Over all prompts of the body; 0 where they cannot be told."""


class WorkerView(NamedTuple):
    """One worker that may be chosen, for one request."""

    id: WorkerId
    load: Standing
    rates: Rates
    cached_tokens: int
    """Prompt tokens in its GPU cache, by its events."""
    predicted_tokens: int
    """The same, or sent there so recently that they will be: at least `cached_tokens`."""
    history_tokens: int
    """Prompt tokens that it held or was sent within its last two cache sizes: at least `cached_tokens`."""
    reachable_tokens: int
    """Those it need not compute: `predicted_tokens`, and what it would load right after them from below its GPU."""
    load_s: float
    """How long that takes."""


class Cost(NamedTuple):
    """What one worker was expected to cost, in seconds."""

    total_s: float
    queued_s: float
    own_s: float
    decode_s: float
    imposed_s: float
    """Delay put on others by what would be new to the worker's history."""
    load_s: float
    """Loading from below the GPU."""

    def parts(self) -> dict[str, float]:
        return {
            "queued": self.queued_s,
            "load": self.load_s,
            "own": self.own_s,
            "decode": self.decode_s,
            "imposed": self.imposed_s,
        }


class Choice(NamedTuple):
    """The chosen worker, by its position in the pool that was given, and why."""

    position: int
    reason: str
    costs: tuple[Cost, ...] = ()
    """One a worker, in the pool's order; empty where the strategy weighs nothing."""


class Strategy(Protocol):
    """Picks one worker of a pool that is never empty."""

    def __call__(self, request: RequestView, pool: Sequence[WorkerView], now: float) -> Choice: ...

"""When to stop asking engines, and refusals for want of one: typed, with the time after which another try may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvpool_router.proxy import EngineFailed
from kvpool_router.requests.refusal import Refusal
from kvpool_router.workers import WorkerId

MAX_REACHED = 3
"""Engines that may fail on one request: it might be the request that kills them, and others need the rest."""
RETRY_AFTER_S = 1


@dataclass(slots=True)
class Tries:
    """Workers that failed one request before its first byte. One that was not even reached is no reason to stop."""

    failed: dict[WorkerId, str] = field(default_factory=dict)
    """Why, in words."""
    given_up: set[WorkerId] = field(default_factory=set)
    """Not to be asked again. One that was silent may: on a busy machine all are for a moment, one after the other."""
    reached: int = 0

    def add(self, worker: WorkerId, failure: EngineFailed) -> None:
        self.failed[worker] = str(failure)
        if not failure.silent:
            self.given_up.add(worker)
        self.reached += failure.reached

    @property
    def exhausted(self) -> bool:
        return self.reached >= MAX_REACHED


def no_worker(tried: Mapping[WorkerId, str]) -> Refusal:
    """Nobody is left to ask; says who was, and what became of it."""
    if not tried:
        why = "No engine of the pool is ready to take requests; send the request again shortly."
        return Refusal(503, why, retry_after_s=RETRY_AFTER_S)
    told = "; ".join(f"{worker.pod}: {why}" for worker, why in tried.items())
    return Refusal(503, f"No engine answered ({told}); send the request again shortly.", retry_after_s=RETRY_AFTER_S)


def untold_model(name: str) -> Refusal:
    """It may be an adapter of an engine that does not answer now, so nobody can say that there is no such model."""
    why = f"The model `{name}` is not the pool's own, and not every engine says now whether it is an adapter"
    return Refusal(503, f"{why}; send the request again shortly.", param="model", retry_after_s=RETRY_AFTER_S)


def owner_gone(worker: WorkerId, why: str) -> Refusal:
    """A stored response went with the engine that held it."""
    return Refusal(404, f"The engine {worker.pod} that holds this response cannot be asked: {why}. Start anew.")

"""Refusals for want of an engine: typed, with the time after which another try may do."""

from collections.abc import Mapping

from kvpool_router.requests.refusal import Refusal
from kvpool_router.workers import WorkerId

MAX_ATTEMPTS = 3
"""Engines that one request is offered to before it is refused."""
RETRY_AFTER_S = 1


def no_worker(tried: Mapping[WorkerId, str]) -> Refusal:
    """Nobody is left to ask; says who was, and what became of it."""
    if not tried:
        why = "No engine of the pool is ready to take requests; send the request again shortly."
        return Refusal(503, why, retry_after_s=RETRY_AFTER_S)
    told = "; ".join(f"{worker.pod}: {why}" for worker, why in tried.items())
    return Refusal(503, f"No engine answered ({told}); send the request again shortly.", retry_after_s=RETRY_AFTER_S)


def owner_gone(worker: WorkerId, why: str) -> Refusal:
    """A stored response went with the engine that held it."""
    return Refusal(404, f"The engine {worker.pod} that holds this response cannot be asked: {why}. Start anew.")

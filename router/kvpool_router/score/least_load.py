"""The fewest requests in flight: what a load balancer without knowledge of prompts can do best."""

from collections.abc import Sequence

from kvpool_router.score.protocol import Choice, RequestView, WorkerView
from kvpool_router.score.ties import TieBreak


class LeastLoad:
    """Fewest requests queued or running."""

    def __init__(self, seed: int = 0) -> None:
        self._ties = TieBreak(seed)

    def __call__(self, request: RequestView, pool: Sequence[WorkerView], now: float) -> Choice:
        busy = [float(each.load.queued_requests + each.load.running) for each in pool]
        index, _ = self._ties.least(busy, pool)
        return Choice(index, "fewest requests in flight")

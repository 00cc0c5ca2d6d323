"""Each worker in turn, whatever it holds or does: the baseline that every balancer offers."""

from collections.abc import Sequence

from kvpool_router.score.protocol import Choice, RequestView, WorkerView


class RoundRobin:
    """The worker after the last one, by name, so that a changing pool keeps its order."""

    def __init__(self, seed: int = 0) -> None:
        del seed
        self._turn = 0

    def __call__(self, request: RequestView, pool: Sequence[WorkerView], now: float) -> Choice:
        self._turn += 1
        return Choice(self._turn % len(pool), "next in turn")

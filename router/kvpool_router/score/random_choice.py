"""Any worker, by a seeded draw: the baseline below all others."""

from collections.abc import Sequence
from random import Random

from kvpool_router.score.protocol import Choice, RequestView, WorkerView


class RandomChoice:
    """Uniform over the pool."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = Random(seed)  # noqa: S311 - placement needs no secrecy, and tests need the same draw again

    def __call__(self, request: RequestView, pool: Sequence[WorkerView], now: float) -> Choice:
        return Choice(self._draw.randrange(len(pool)), "drawn at random")

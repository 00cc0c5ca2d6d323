"""Which of several equal workers is chosen."""

from collections.abc import Sequence
from random import Random

from kvpool_router.score.protocol import WorkerView

TOLERANCE = 0.02
"""Costs closer than this share are equal: no prediction is finer, and one shared block must not draw all traffic."""


class TieBreak:
    """Least value; among equals the one that was sent to longest ago, and by a seeded draw where that is equal too."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(seed)  # noqa: S311 - placement needs no secrecy, and tests need the same draw again

    def least(self, values: Sequence[float], pool: Sequence[WorkerView]) -> tuple[int, bool]:
        """The index of the least value, and whether it was drawn from several."""
        lowest = min(values)
        bound = lowest + TOLERANCE * abs(lowest)
        near = [index for index, value in enumerate(values) if value <= bound]
        if len(near) == 1:
            return near[0], False
        oldest = min(pool[index].load.last_sent for index in near)
        idle = [index for index in near if pool[index].load.last_sent == oldest]
        return (idle[0] if len(idle) == 1 else self._draw.choice(idle)), True

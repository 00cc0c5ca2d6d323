"""Small numbers for workers, so that a set of workers is one int."""

from enum import IntEnum
from typing import Final

from kvpool_router.index.tiers import Tier
from kvpool_router.workers import WorkerId

_KNOWN_SETS = 1024
"""Decoded sets that are remembered; lookups meet the same few sets again and again."""


class Layer(IntEnum):
    """What a place in a set of workers says. Each worker has one seat (bit position) a layer, side by side."""

    HELD = 0
    """Its engine said that it has the blocks, on the GPU."""
    EXPECTED = 1
    """It was just sent a prompt with the blocks."""
    KNOWN = 2
    """It was sent a prompt with the blocks some time ago."""
    IN_CPU = 3
    """Its engine said that it has the blocks there."""
    IN_STORAGE = 4


LAYER_OF: Final = {Tier.GPU: Layer.HELD, Tier.CPU: Layer.IN_CPU, Tier.STORAGE: Layer.IN_STORAGE}
LAYERS_BELOW_GPU: Final = (Layer.IN_CPU, Layer.IN_STORAGE)


def is_on_gpu(seat: int) -> bool:
    """Of a tier's seat."""
    return seat % len(Layer) == Layer.HELD


def kin(seat: int) -> tuple[int, ...]:
    """The seats of the same worker's other tiers."""
    first = seat - seat % len(Layer)
    return tuple(other for layer in LAYER_OF.values() if (other := first + layer) != seat)


def below(seat: int) -> tuple[int, ...]:
    """The seats of the same worker's other tiers, without its GPU's."""
    first = seat - seat % len(Layer)
    return tuple(other for layer in LAYERS_BELOW_GPU if (other := first + layer) != seat)


class Seats:
    """Gives each worker its first seat, the lowest free one, and takes it back.

    Whoever releases a worker must have removed it from every set before: a later worker gets the same seats.
    """

    def __init__(self) -> None:
        self._first: dict[WorkerId, int] = {}
        self._workers: list[WorkerId | None] = []
        self._decoded: dict[int, dict[WorkerId, None]] = {}

    def first(self, worker: WorkerId) -> int | None:
        return self._first.get(worker)

    def claim(self, worker: WorkerId) -> int:
        """Seats a worker that has no seat."""
        free = self._workers.index(None) if None in self._workers else len(self._workers)
        self._workers[free : free + 1] = [worker]
        self._decoded.clear()
        self._first[worker] = free * len(Layer)
        return self._first[worker]

    def release(self, worker: WorkerId) -> None:
        self._workers[self._first.pop(worker) // len(Layer)] = None
        self._decoded.clear()

    def everyone(self) -> int:
        """The set of all first seats."""
        return sum(1 << first for first in self._first.values())

    def workers(self, members: int) -> dict[WorkerId, None]:
        """The workers of a set of first seats: the keys of a dictionary, so that others need not hash them again."""
        decoded = self._decoded.get(members)
        if decoded is None:
            if len(self._decoded) == _KNOWN_SETS:
                self._decoded.clear()
            named = (self._workers[seat // len(Layer)] for seat in _seats(members))
            decoded = self._decoded[members] = {worker: None for worker in named if worker is not None}
        return decoded


def _seats(members: int) -> list[int]:
    found = []
    while members:
        lowest = members & -members
        found.append(lowest.bit_length() - 1)
        members ^= lowest
    return found

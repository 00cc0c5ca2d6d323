"""A small number for each worker, so that a set of workers is one int."""

from kvpool_router.workers import WorkerId

_KNOWN_SETS = 1024
"""Decoded sets that are remembered; lookups meet the same few sets again and again."""


class WorkerBits:
    """Gives each worker a bit position and takes it back; the lowest free one is given first, which keeps sets narrow.

    Whoever releases a position must have removed it from every set before: a later worker gets the same one.
    """

    def __init__(self) -> None:
        self._bits: dict[WorkerId, int] = {}
        self._workers: list[WorkerId | None] = []
        self._decoded: dict[int, tuple[WorkerId, ...]] = {}

    def bit(self, worker: WorkerId) -> int | None:
        return self._bits.get(worker)

    def claim(self, worker: WorkerId) -> int:
        """The worker's position, given now if it had none."""
        known = self._bits.get(worker)
        if known is not None:
            return known
        free = self._workers.index(None) if None in self._workers else len(self._workers)
        self._workers[free : free + 1] = [worker]
        self._bits[worker] = free
        self._decoded.clear()
        return free

    def release(self, worker: WorkerId) -> None:
        self._workers[self._bits.pop(worker)] = None
        self._decoded.clear()

    def workers(self, members: int) -> tuple[WorkerId, ...]:
        """The workers of a set. Positions that nobody has are not in it."""
        decoded = self._decoded.get(members)
        if decoded is None:
            if len(self._decoded) == _KNOWN_SETS:
                self._decoded.clear()
            named = (self._workers[bit] for bit in positions(members))
            decoded = self._decoded[members] = tuple(worker for worker in named if worker is not None)
        return decoded


def positions(members: int) -> list[int]:
    """The positions set in `members`, ascending."""
    found = []
    while members:
        lowest = members & -members
        found.append(lowest.bit_length() - 1)
        members ^= lowest
    return found

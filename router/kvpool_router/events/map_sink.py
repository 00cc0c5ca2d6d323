"""Decodes one worker's batches and applies them to the map, a slice at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kvpool_router.events.pace import Pace
from kvpool_router.events.sequence import Frame
from kvpool_router.events.wire import BlockRemoved, BlockStored, KvEvent, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.workers import WorkerId

SLICE_BLOCKS = 256
"""Blocks applied in one turn of the loop: about half a millisecond."""


@dataclass(slots=True)
class Tally:
    """What was applied since the map of this worker was last empty."""

    stored_blocks: int = 0
    unreadable: int = 0
    cleared: bool = False


class MapSink:
    """The map as one worker's stream sees it, and a tally of what went into it."""

    def __init__(self, worker: WorkerId, cache_map: CacheMap, pace: Pace, wall_clock: Callable[[], float]) -> None:
        self.tally = Tally()
        self.skipped_events = 0
        self.lag_ms: float | None = None
        """Age of the newest live batch when it was applied."""
        self._worker = worker
        self._map = cache_map
        self._stamp = 0.0
        self._pace = pace
        self._wall_clock = wall_clock
        self._suspended = False
        self.detached = False
        """The map is not touched any more: the worker is gone, or another stream speaks for it."""

    def detach(self) -> None:
        self.detached = True

    def count_foreign(self) -> None:
        """A message came that carries no batch."""
        self.skipped_events += 1

    async def apply(self, frame: Frame, *, live: bool) -> None:
        rest = await self._pace.run(partial(self._begin, frame))
        for events in rest:
            await self._pace.run(partial(self._put, events))
        if live and self._stamp:
            self.lag_ms = 1000 * max(0.0, self._wall_clock() - self._stamp)

    def suspend(self) -> None:
        if not self.detached:
            self._map.suspend(self._worker)
            self._suspended = True

    def resume(self) -> None:
        if not self.detached:
            self._map.resume(self._worker)
            self._suspended = False

    def drop(self) -> None:
        if self.detached:
            return
        self._map.drop(self._worker)
        self.tally = Tally()
        if self._suspended:
            self._map.suspend(self._worker)

    def _begin(self, frame: Frame) -> Iterator[Sequence[KvEvent]]:
        batch = decode(frame.payload)
        self._stamp = batch.timestamp
        self.skipped_events += len(batch.skipped)
        self.tally.unreadable += len(batch.skipped)
        pieces = slices(batch.events, SLICE_BLOCKS)
        self._put(next(pieces, ()))
        return pieces

    def _put(self, events: Sequence[KvEvent]) -> None:
        if self.detached:
            return
        applied = self._map.apply(self._worker, events)
        if applied.cleared:
            self.tally = Tally(cleared=True)
        self.tally.stored_blocks += applied.stored


def slices(events: Sequence[KvEvent], blocks: int) -> Iterator[Sequence[KvEvent]]:
    """The events in order, in runs of about so many blocks; a longer event is a run by itself."""
    begin = weight = 0
    for position, event in enumerate(events):
        own = _blocks(event)
        if weight + own > blocks and position > begin:
            yield events[begin:position]
            begin, weight = position, 0
        weight += own
    yield events[begin:]


def _blocks(event: KvEvent) -> int:
    return max(1, len(event.block_hashes)) if isinstance(event, BlockStored | BlockRemoved) else 1

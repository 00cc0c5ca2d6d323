"""Decodes one worker's batches and applies them to the map, a slice at a time."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from kvpool_router.events.doubt import Doubted
from kvpool_router.events.pace import Pace
from kvpool_router.events.sequence import Frame
from kvpool_router.events.standing import Lack
from kvpool_router.events.wire import BlockRemoved, BlockStored, KvEvent, Skipped, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.workers import WorkerId

SLICE_BLOCKS = 256
"""Blocks applied in one turn of the loop: about half a millisecond."""


class Observer(Protocol):
    """Hears what comes of events, for metrics."""

    def applied(self, lag_s: float) -> None:
        """A live batch is in the map, so long after the engine made it; below 0 where its clock is ahead."""
        ...

    def skipped(self, what: str) -> None:
        """An event was not understood (`Skipped`), or a message that is no batch came (`message`)."""
        ...


_LACK_OF = {
    Skipped.STORED: Lack.STORED,
    Skipped.UNKNOWN: Lack.UNKNOWN,
    Skipped.ILLEGIBLE: Lack.ILLEGIBLE,
    Skipped.REMOVED: Lack.REMOVED,
}


@dataclass(slots=True)
class Tally:
    """What has become of the worker's map since it was last empty, or something in it was last found to be missing."""

    stored_blocks: int = 0
    """Stored since then: once they are as many as the cache takes, nothing of before is left in it."""
    lack: Lack = Lack.NOTHING
    cleared: bool = False
    """The engine has emptied its cache, so that what was before no longer matters."""


class MapSink:
    """The map as one worker's stream sees it, and a tally of what went into it.

    What may have been removed unheard is taken out of the map and doubted until the engine names it again.
    """

    def __init__(
        self,
        worker: WorkerId,
        cache_map: CacheMap,
        pace: Pace,
        wall_clock: Callable[[], float],
        observer: Observer,
    ) -> None:
        self.tally = Tally()
        self.skipped_events = 0
        self.lag_ms: float | None = None
        """Age of the newest live batch when it was applied."""
        self._worker = worker
        self._map = cache_map
        self._stamp = 0.0
        self._pace = pace
        self._wall_clock = wall_clock
        self._observer = observer
        self._suspended = False
        self._doubted = Doubted()
        self._unsorted: Iterator[Sequence[KvEvent]] | None = None
        """What is doubted and not yet found again by its hashes."""
        self.detached = False
        """The map is not touched any more: the worker is gone, or another stream speaks for it."""

    def detach(self) -> None:
        self.detached = True

    def count_foreign(self) -> None:
        """A message came that carries no batch."""
        self.skipped_events += 1
        self._observer.skipped("message")

    async def apply(self, frame: Frame, *, live: bool) -> None:
        pieces = self._pieces(frame.payload)
        try:
            while await self._pace.run(partial(next, pieces, False)):
                pass
        except asyncio.CancelledError:
            for _ in pieces:
                pass
            raise
        await self._sort()
        if live and self._stamp:
            lag_s = self._wall_clock() - self._stamp
            self.lag_ms = 1000 * max(0.0, lag_s)
            self._observer.applied(lag_s)

    def suspend(self) -> None:
        if not self.detached:
            self._map.suspend(self._worker)
            self._suspended = True

    def resume(self) -> None:
        if not self.detached:
            self._map.resume(self._worker)
            self._suspended = False

    def conceal(self) -> None:
        """What the engine said gives no credit until `resume`, what it is sent from now on does."""
        if not self.detached:
            self._map.conceal(self._worker)
            self._suspended = False

    def drop(self) -> None:
        self._doubted.clear()
        self._unsorted = None
        self._empty()

    async def doubt(self) -> None:
        self._set_aside(Lack.BATCHES)
        await self._sort()

    def turned_over(self, cache_tokens: int) -> None:
        """Gives up what is still doubted once the engine has stored as much as its cache takes."""
        if self.tally.stored_blocks * self._map.block_tokens(self._worker) >= cache_tokens:
            self._doubted.clear()

    def _empty(self) -> None:
        if self.detached:
            return
        self._map.drop(self._worker)
        self.tally = Tally()
        if self._suspended:
            self._map.suspend(self._worker)

    def _set_aside(self, lack: Lack) -> None:
        """Ends the credit of all that is known, at once."""
        if self.detached:
            return
        self._unsorted = self._map.dump(self._worker)
        lack = max(lack, self.tally.lack)
        self._empty()
        self.tally.lack = lack

    async def _sort(self) -> None:
        while self._unsorted is not None:
            await self._pace.run(self._sort_some)

    def _sort_some(self) -> None:
        events = next(self._unsorted, None) if self._unsorted is not None else None
        if events is None:
            self._unsorted = None
        else:
            self._doubted.add(events)

    def _pieces(self, payload: bytes) -> Iterator[bool]:
        """Applies a slice a step; True while there are more."""
        batch = decode(payload)
        self._stamp = batch.timestamp
        pieces = tuple(slices(batch.events, SLICE_BLOCKS))
        for left, events in zip(range(len(pieces) - 1, -1, -1), pieces, strict=True):
            self._put(events)
            if not left and batch.skipped:
                self._miss(batch.skipped)
            yield left > 0

    def _miss(self, skipped: Sequence[Skipped]) -> None:
        self.skipped_events += len(skipped)
        for kind in skipped:
            self._observer.skipped(kind)
        lack = max(self.tally.lack, *(_LACK_OF[kind] for kind in skipped))
        if any(kind.may_remove for kind in skipped):
            self._set_aside(lack)
        self.tally.lack, self.tally.cleared, self.tally.stored_blocks = lack, False, 0

    def _put(self, events: Sequence[KvEvent]) -> None:
        if self.detached:
            return
        confirmed = 0
        if self._doubted:
            events, confirmed = self._doubted.sift(events)
        applied = self._map.apply(self._worker, events)
        if applied.cleared:
            self.tally = Tally(cleared=True)
        if applied.orphaned:
            self.tally.stored_blocks = 0
        self.tally.stored_blocks += max(0, applied.stored - confirmed)


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

"""The event plane: keeps the map true to what the engines say, and says how true it is."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import zmq.asyncio
from kvpool_api.wire import EventState

from kvpool_router.engine_metrics import Reading
from kvpool_router.events.follower import Rhythm
from kvpool_router.events.map_sink import Observer
from kvpool_router.events.marks import Mark
from kvpool_router.events.pace import Pace
from kvpool_router.events.standing import Evidence, judge
from kvpool_router.events.stream import Surroundings, WorkerStream
from kvpool_router.events.wiring import Source
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.tiers import Tier
from kvpool_router.workers import Worker, WorkerId


@dataclass(frozen=True, slots=True)
class EventStanding:
    """What the plane knows of one worker."""

    state: EventState
    reason: str
    synced: bool
    """Subscribed and replayed on this connection, whatever came of it; true too where there is nothing to follow."""
    blocks: int = 0
    blocks_below_gpu: int = 0
    last_sequence: int | None = None
    lag_ms: float | None = None
    gaps: int = 0
    restarts: int = 0
    skipped_events: int = 0
    replaying: bool = False
    """Batches are missing and have been asked for."""
    wiring_confirmed: bool | None = None
    """The engine's own account agrees with where its events are looked for; None while it has not told."""


class EventPlane:
    """One stream a worker. Whatever goes wrong on one of them shows in its standing and stops nothing else."""

    def __init__(
        self,
        cache_map: CacheMap,
        context: zmq.asyncio.Context,
        *,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        rhythm: Rhythm,
        observer: Observer,
    ) -> None:
        self._map = cache_map
        self._around = Surroundings(cache_map, context, Pace(monotonic), monotonic, wall_clock, rhythm, observer)
        self._streams: dict[WorkerId, WorkerStream] = {}
        self._readings: dict[WorkerId, Reading] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._adopted: dict[WorkerId, Mark] = {}

    def marks(self) -> dict[WorkerId, Mark]:
        """How far each worker's map goes at this moment; without those that have nothing, or a batch in part."""
        marks = ((worker, stream.mark()) for worker, stream in self._streams.items())
        return {worker: mark for worker, mark in marks if mark is not None}

    def adopt(self, marks: Mapping[WorkerId, Mark]) -> None:
        """The map holds these workers' blocks up to their marks: the next `follow` goes on from there.

        It drops what belongs to other processes than it is told of, or to nobody. Until an engine has confirmed its
        mark, its worker has no credit. To be called before any of the workers is followed.
        """
        self._adopted = dict(marks)

    def follow(self, workers: tuple[Worker, ...]) -> None:
        """Follows these workers and no others; one whose process or addresses changed begins from nothing."""
        told = {worker.id: worker for worker in workers}
        sources = {(each.worker.id, each.worker.incarnation): each.source for each in self._streams.values()}
        for known in list(self._streams.values()):
            if not _same_stream(known.worker, told.get(known.worker.id)):
                self._drop(known)
        for worker in workers:
            if worker.id not in self._streams:
                self._begin(worker)
                if (source := sources.get((worker.id, worker.incarnation))) is not None:
                    self.wired(worker.id, source)
        for nobody in self._adopted:
            self._map.drop(nobody)
        self._adopted = {}

    def read(self, worker: WorkerId, reading: Reading) -> None:
        """The engine's own account of block size and capacity."""
        self._readings[worker] = reading
        if reading.cache_tokens is not None and (stream := self._streams.get(worker)) is not None:
            stream.sink.turned_over(reading.cache_tokens)

    def wired(self, worker: WorkerId, source: Source) -> None:
        """The engine's own account of where it publishes."""
        if (stream := self._streams.get(worker)) is not None:
            stream.wired(source)

    def standing(self, worker: WorkerId) -> EventStanding | None:
        """None for a worker that is not followed."""
        stream = self._streams.get(worker)
        if stream is None:
            return None
        facts, sink = stream.follower.facts, stream.sink
        state, reason = judge(self._evidence(stream))
        applied = stream.follower.marks.applied
        return EventStanding(
            state=state,
            reason=reason,
            synced=facts.caught_up or stream.worker.events is None or stream.miswired is not None,
            blocks=self._map.blocks(worker),
            blocks_below_gpu=self._map.blocks(worker, Tier.CPU) + self._map.blocks(worker, Tier.STORAGE),
            last_sequence=applied if applied >= 0 else None,
            lag_ms=sink.lag_ms,
            gaps=facts.gaps,
            restarts=facts.restarts,
            skipped_events=sink.skipped_events,
            replaying=facts.replaying,
            wiring_confirmed=None if stream.source is None else stream.miswired is None and stream.hint is None,
        )

    def begin_again(self, worker: WorkerId, *, whole: bool) -> None:
        """Forgets what the worker's events said, and follows them anew on a new connection.

        `whole` reads the history that the engine still has; else what was before is left unknown.
        """
        known = self._streams.get(worker)
        if known is None:
            return
        reading, mark = self._readings.get(worker), known.mark()
        self._drop(known)
        if reading is not None:
            self._readings[worker] = reading
        anew = self._streams[worker] = WorkerStream(known.worker, self._around)
        if known.source is not None:
            anew.wired(known.source)
        if not whole and mark is not None:
            anew.adopt(msgspec.structs.replace(mark, first=max(1, mark.applied), stored_blocks=0, cleared=False))
        anew.begin()

    async def close(self) -> None:
        for stream in self._streams.values():
            stream.cut()
        await asyncio.gather(*(stream.ended() for stream in self._streams.values()), *self._ending)

    def _begin(self, worker: Worker) -> None:
        stream = self._streams[worker.id] = WorkerStream(worker, self._around)
        mark = self._adopted.pop(worker.id, None)
        if mark is not None and not stream.adopt(mark):
            self._map.drop(worker.id)
        stream.begin()

    def _drop(self, stream: WorkerStream) -> None:
        stream.cut()
        ending = asyncio.ensure_future(stream.ended())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        worker = stream.worker.id
        del self._streams[worker]
        self._readings.pop(worker, None)
        self._map.resume(worker)
        self._map.drop(worker)

    def _evidence(self, stream: WorkerStream) -> Evidence:
        follower, tally = stream.follower, stream.sink.tally
        reading = self._readings.get(stream.worker.id, Reading())
        return Evidence(
            events=stream.worker.events,
            miswired=stream.miswired,
            connection_trouble=_with_hint(stream.trouble, stream.hint),
            caught_up=follower.facts.caught_up,
            replaying=follower.facts.replaying,
            replay_trouble=follower.facts.replay_trouble,
            first=follower.marks.first,
            applied=follower.marks.applied,
            lack=tally.lack,
            cleared=tally.cleared,
            turned_over=tally.stored_blocks * self._map.block_tokens(stream.worker.id),
            cache_tokens=reading.cache_tokens,
        )


def _with_hint(trouble: str | None, hint: str | None) -> str | None:
    return trouble if trouble is None or hint is None else f"{trouble} {hint}"


def _same_stream(known: Worker, told: Worker | None) -> bool:
    return told is not None and (
        (known.incarnation, known.events, known.replay) == (told.incarnation, told.events, told.replay)
    )

"""A router's map in words: each worker's blocks as events with the mark they go up to, then what it once was sent."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from kvpool_router.events.marks import Mark
from kvpool_router.events.wire import KvEvent, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.siblings.frames import LONGEST_PAYLOAD, FrameWriter, Refused
from kvpool_router.workers import WorkerId

SNAPSHOT = "snapshot"
"""The kind of stream that it travels in, and the last part of its path."""
AMID_BATCH_TRIES, AMID_BATCH_PAUSE_S = 20, 0.005
"""A worker whose map is amid a batch has no mark: it is asked again so often, then left to be replayed."""
PROMPTS_AT_ONCE, PROMPT_BYTES_AT_ONCE = 16, 1 << 20
LONGEST_PROMPT = LONGEST_PAYLOAD - 64
"""Encoded bytes; leaves room in a frame for what makes a part of it."""


class WorkerPart(msgspec.Struct, tag="worker", frozen=True):
    """What follows, up to the next of these, is of this worker."""

    worker: WorkerId
    mark: Mark
    history_tokens: int


class EventsPart(msgspec.Struct, tag="events", frozen=True):
    batch: bytes
    """As engines publish them."""


class HistoryPart(msgspec.Struct, tag="history", frozen=True):
    """Prompts that the worker was sent, the oldest first."""

    prompts: list[tuple[bytes, Namespace]]


class EndPart(msgspec.Struct, tag="end", frozen=True):
    """The last word. What ends without it is not whole."""

    workers: int


Part: TypeAlias = WorkerPart | EventsPart | HistoryPart | EndPart
_DECODER = msgspec.msgpack.Decoder(Part)


class Standing(Protocol):
    @property
    def last_sequence(self) -> int | None: ...


class Plane(Protocol):
    """What is known of how far each worker's map goes."""

    def marks(self) -> Mapping[WorkerId, Mark]: ...

    def standing(self, worker: WorkerId) -> Standing | None: ...


def encoded(part: Part) -> bytes:
    return msgspec.msgpack.encode(part, enc_hook=bytes)


def told(plane: Plane, cache: CacheMap, trusted: Callable[[WorkerId], bool]) -> AsyncGenerator[bytes, None]:
    """Frames, made in slices of about a millisecond: other work of the loop goes on between any two.

    Workers that are not `trusted` are left out, so that whoever reads this has them replayed.
    """
    return _framed(_parts(plane, cache, trusted))


async def _framed(parts: AsyncGenerator[Part | None, None]) -> AsyncGenerator[bytes, None]:
    writer = FrameWriter(SNAPSHOT)
    async for part in parts:
        if part is not None:
            yield writer.frame(encoded(part))
        await asyncio.sleep(0)


async def _parts(
    plane: Plane, cache: CacheMap, trusted: Callable[[WorkerId], bool]
) -> AsyncGenerator[Part | None, None]:
    workers = 0
    for worker in cache.workers():
        if not trusted(worker) or (mark := await _mark(plane, worker)) is None:
            continue
        # No await between the mark and the freezing of the blocks: both are of one moment.
        frozen = cache.dump(worker)
        workers += 1
        yield WorkerPart(worker, mark, cache.history_tokens(worker))
        for events in frozen:
            yield EventsPart(_batch(events)) if events else None
        for prompts in _batched(cache.remembered(worker)):
            yield HistoryPart(prompts)
    yield EndPart(workers)


async def _mark(plane: Plane, worker: WorkerId) -> Mark | None:
    for _ in range(AMID_BATCH_TRIES):
        standing = plane.standing(worker)
        if standing is None or standing.last_sequence is None:
            return None
        if (mark := plane.marks().get(worker)) is not None:
            return mark
        await asyncio.sleep(AMID_BATCH_PAUSE_S)
    return None


def _batch(events: Sequence[KvEvent]) -> bytes:
    return msgspec.msgpack.encode((0.0, events, None), enc_hook=bytes)


def _batched(prompts: Iterable[tuple[bytes, Namespace]]) -> Iterator[list[tuple[bytes, Namespace]]]:
    """In order, without those that no frame has room for."""
    batch: list[tuple[bytes, Namespace]] = []
    weight = 0
    for prompt in prompts:
        own = len(msgspec.msgpack.encode(prompt, enc_hook=bytes))
        if own > LONGEST_PROMPT:
            continue
        if batch and (len(batch) == PROMPTS_AT_ONCE or weight + own > PROMPT_BYTES_AT_ONCE):
            yield batch
            batch, weight = [], 0
        batch.append(prompt)
        weight += own
    if batch:
        yield batch


class Receiver(Protocol):
    """The map that a snapshot is loaded into."""

    def apply(self, worker: WorkerId, events: Sequence[KvEvent]) -> object: ...

    def set_history(self, worker: WorkerId, tokens: int) -> None: ...

    def remember(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None: ...

    def drop(self, worker: WorkerId) -> None: ...


class Loading:
    """Puts a snapshot into a map, part by part. Whatever is wrong with it, `undo` leaves nothing of it there."""

    def __init__(self, cache: Receiver) -> None:
        self.marks: dict[WorkerId, Mark] = {}
        self.is_whole = False
        self._cache = cache
        self._worker: WorkerId | None = None

    def take(self, payload: bytes) -> None:
        """One part, in about a millisecond. Raises Refused."""
        try:
            part = _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            raise Refused(f"a part of it is not understood: {error}") from error
        if self.is_whole:
            raise Refused("it goes on after its end")
        match part:
            case WorkerPart():
                self._begin(part)
            case EventsPart():
                self._put(part)
            case HistoryPart():
                for prompt, namespace in part.prompts:
                    self._cache.remember(self._of(), prompt, namespace)
            case EndPart():
                if part.workers != len(self.marks):
                    raise Refused(f"it says {part.workers} workers and holds {len(self.marks)}")
                self.is_whole = True

    def undo(self) -> None:
        for worker in self.marks:
            self._cache.drop(worker)
        self.marks = {}

    def _begin(self, part: WorkerPart) -> None:
        if part.worker in self.marks:
            raise Refused(f"it holds {part.worker} twice")
        self._worker = part.worker
        self.marks[part.worker] = part.mark
        self._cache.set_history(part.worker, part.history_tokens)

    def _put(self, part: EventsPart) -> None:
        batch = decode(part.batch)
        if batch.skipped:
            raise Refused("it holds events that are not understood")
        self._cache.apply(self._of(), batch.events)

    def _of(self) -> WorkerId:
        if self._worker is None:
            raise Refused("it names no worker")
        return self._worker

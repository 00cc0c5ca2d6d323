"""The last changes of a store in order, and how a watch that selects by labels sees them."""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kvpool_operator.cluster.local.manifests import has_labels
from kvpool_operator.cluster.seam import Change, Expired, Kind, Manifest


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or a watch asks for; `namespace=None` means all."""

    kind: Kind
    namespace: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One write: the object before it and after it; `gone` marks a removal, whose `after` is the last state."""

    version: int
    kind: Kind
    namespace: str
    before: Manifest | None
    after: Manifest
    gone: bool = False


class History:
    """The last `capacity` records; whoever asks for older ones gets Expired and must list again."""

    def __init__(self, capacity: int) -> None:
        self._records: deque[Record] = deque(maxlen=capacity)
        self._latest = 0
        self._moved = asyncio.Event()

    @property
    def latest(self) -> int:
        """Version of the newest record; the next write gets a higher one."""
        return self._latest

    def add(self, record: Record) -> None:
        self._records.append(record)
        self._latest = record.version
        self._moved.set()
        self._moved = asyncio.Event()

    def since(self, version: int) -> tuple[Record, ...]:
        """Records after `version`, oldest first. Raises Expired where some of them are forgotten."""
        oldest = self._records[0].version if self._records else self._latest + 1
        if not oldest - 1 <= version <= self._latest:
            raise Expired(f"too old resource version: {version} ({oldest - 1}); list again and watch from there")
        fresh = (record for record in reversed(self._records) if record.version > version)
        return tuple(fresh)[::-1]

    async def moved(self, version: int) -> None:
        """Return once something came after `version`."""
        while self._latest <= version:
            await self._moved.wait()


def seen_by(selection: Selection, record: Record) -> Iterator[Change]:
    """The change as a watch of this selection tells it: an object that gains or loses the labels comes or goes."""
    if record.kind != selection.kind or selection.namespace not in (None, record.namespace):
        return
    was = record.before is not None and has_labels(record.before, selection.labels)
    is_in = not record.gone and has_labels(record.after, selection.labels)
    if is_in:
        yield Change("MODIFIED" if was else "ADDED", record.after)
    elif was:
        yield Change("DELETED", record.after)

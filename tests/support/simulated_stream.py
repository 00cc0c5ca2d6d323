"""An engine's numbered event stream without sockets, and a map that checks what is put into it."""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from kvpool_router.events.feed import ReplayUnavailable
from kvpool_router.events.sequence import Frame


class Lost(Exception):
    """The connection broke."""


class Finished(Exception):
    """The script is over."""


class Happening(Enum):
    PUBLISH = auto()
    LOSE = auto()
    """A batch is published that never arrives live."""
    RENUMBER = auto()
    """The engine begins again from 0 without closing the connection."""
    DISCONNECT = auto()
    RESTART = auto()
    """Another process at the same address, which has published two batches already."""
    QUIET = auto()


class Fault(Enum):
    NONE = auto()
    SILENT = auto()
    CUT = auto()
    """No end mark after two batches."""
    HOLE = auto()
    """The second batch is missing."""


@dataclass
class SimulatedEngine:
    """Publishes what the script says whenever the follower waits for a live batch, and answers replays with faults."""

    script: Iterator[Happening]
    faults: Iterator[Fault]
    buffer_batches: int
    publishes_during_replay: bool = False
    process: int = 0
    now: float = 0.0
    asked: int = 0
    published: list[Frame] = field(default_factory=list)
    _live: deque[Frame] = field(default_factory=deque)
    _next: int = 0

    def clock(self) -> float:
        return self.now

    def connect(self) -> None:
        self._live.clear()

    async def live(self, timeout_s: float) -> Frame | None:
        while not self._live:
            happening = next(self.script, None)
            if happening is None:
                raise Finished
            if happening is Happening.QUIET:
                self.now += 1000.0
                return None
            self._happen(happening)
        return self._live.popleft()

    async def replay(self, first: int) -> AsyncGenerator[Frame, None]:
        self.asked += 1
        fault = next(self.faults, Fault.NONE)
        if fault is Fault.SILENT:
            raise ReplayUnavailable("silent")
        buffered = self.published[max(0, len(self.published) - self.buffer_batches) :]
        held = [frame for frame in buffered if frame.sequence >= first]
        for position, frame in enumerate(held):
            if fault is Fault.CUT and position == 2:
                raise ReplayUnavailable("cut")
            if not (fault is Fault.HOLE and position == 1):
                yield frame
        if self.publishes_during_replay and self.asked % 2:
            self._happen(Happening.PUBLISH)

    def _happen(self, happening: Happening) -> None:
        if happening is Happening.DISCONNECT:
            raise Lost
        if happening is Happening.RESTART:
            self._begin_process()
            self._publish()
            self._publish()
            raise Lost
        if happening is Happening.RENUMBER:
            self._begin_process()
        frame = self._publish()
        if happening is not Happening.LOSE:
            self._live.append(frame)

    def _begin_process(self) -> None:
        self.process += 1
        self.published = []
        self._next = 0

    def _publish(self) -> Frame:
        self.now += 1.0
        frame = Frame(self._next, f"{self.process}:{self._next}".encode())
        self._next += 1
        self.published.append(frame)
        return frame


class CheckedMap:
    """A sink that refuses what must never happen: a batch twice, out of order, or beside another process's."""

    def __init__(self) -> None:
        self.held: list[Frame] = []
        self.credited = True
        self.drops = 0
        self.doubts = 0

    async def apply(self, frame: Frame, *, live: bool) -> None:
        process = frame.payload.split(b":")[0]
        assert all(each.payload.split(b":")[0] == process for each in self.held), "two processes in one map"
        assert not self.held or frame.sequence == self.held[-1].sequence + 1, "not the next batch"
        self.held.append(frame)

    def suspend(self) -> None:
        self.credited = False

    def resume(self) -> None:
        self.credited = True

    def drop(self) -> None:
        self.drops += 1
        self.held.clear()

    async def doubt(self) -> None:
        self.doubts += 1
        self.held.clear()

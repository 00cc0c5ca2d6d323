"""Which engines answer at all, as their metrics tell, which are read every few seconds anyhow.

A request may rightly wait for minutes in an engine's queue, so no deadline on its first byte can tell a long queue from
a process that is stopped, deadlocked or on a lost node. Such a process does not answer its metrics either.

    answering ──2 readings in a row unanswered──> silent ──for 30 s──> dead
        ^                                            │                   │
        └────────────────any answer──────────────────┴───────────────────┘

silent: others are preferred, and whoever waits there for a first byte is let go if another engine answers. If none
does, it is the machine or the network that is slow, and all are used as before.
dead: nobody is sent there any more and nobody waits. Streams that bring no byte in 30 s of silence are broken off.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kvpool_router.engine_http import Exchange
from kvpool_router.workers import Roster, Worker

READINGS_TO_SILENT = 2
DEAD_AFTER_S = 30.0


@dataclass(slots=True)
class _Stream:
    """A begun answer, and when it was last seen to have grown."""

    response: Exchange
    bytes_seen: int = -1
    seen_at: float = 0.0

    def has_stood_still(self, now: float, limit_s: float) -> bool:
        """Whether no byte came in all this time. The reader counts bytes anyhow, so streams pay nothing for it."""
        received = self.response.total_bytes
        if received != self.bytes_seen:
            self.bytes_seen, self.seen_at = received, now
        return now - self.seen_at >= limit_s


@dataclass(slots=True)
class _Address:
    """One engine's address."""

    missed: int = 0
    silent_since: float = 0.0
    last_missed: float = 0.0
    waiting: set[Exchange] = field(default_factory=set)
    """Those without a first byte."""
    streams: dict[int, _Stream] = field(default_factory=dict)

    def let_go(self) -> None:
        for exchange in self.waiting:
            exchange.abort()
        self.waiting.clear()

    def break_off(self) -> None:
        for stream in list(self.streams.values()):
            stream.response.close()


class Liveness:
    """Silence of engines, by the address that the ranks of one pod share. No clock inside."""

    def __init__(self, roster: Roster, dead_after_s: float = DEAD_AFTER_S) -> None:
        self._roster = roster
        self._dead_after_s = dead_after_s
        self._addresses: dict[str, _Address] = {}
        self._silent: set[str] = set()

    def answered(self, url: str) -> None:
        """The engine said something, be it a refusal."""
        address = self._addresses.get(url)
        if address is not None and address.missed:
            address.missed = 0
            self._silent.discard(url)
            for stream in address.streams.values():
                stream.bytes_seen = -1

    def missed(self, url: str, now: float) -> None:
        """A reading was not answered in time. `now` is on the caller's clock, the same in every call."""
        address = self._address(url)
        if not address.missed:
            address.silent_since = now
        address.missed += 1
        address.last_missed = now
        if address.missed < READINGS_TO_SILENT:
            return
        self._silent.add(url)
        if self._is_dead(url) or any(worker.url not in self._silent for worker in self._roster.accepting()):
            address.let_go()
        for stream in list(address.streams.values()):
            if stream.has_stood_still(now, self._dead_after_s):
                stream.response.close()

    def keep(self, urls: Collection[str]) -> None:
        """No engine of the pool has any other address now; what others were still doing is lost if they were silent."""
        for url in self._addresses.keys() - urls:
            address = self._addresses.pop(url)
            address.let_go()
            if url in self._silent:
                self._silent.discard(url)
                address.break_off()

    def is_silent(self, url: str) -> bool:
        return url in self._silent

    def answering(self, pool: Sequence[Worker]) -> Sequence[Worker]:
        """Those of the pool that a request may be sent to: the answering ones, else all but the dead."""
        if not self._silent:
            return pool
        answering = [worker for worker in pool if worker.url not in self._silent]
        return answering or [worker for worker in pool if not self._is_dead(worker.url)]

    def waiting(self, url: str) -> set[Exchange]:
        """Those that wait for a first byte: whoever begins puts it in, and takes it out.

        One that is no longer in it was let go, since it had better go elsewhere.
        """
        return self._address(url).waiting

    @contextmanager
    def streaming(self, url: str, response: Exchange) -> Iterator[None]:
        """Within, the answer is passed on; it is closed when its engine turns out to be dead.

        Entered in the same step in which the exchange leaves `waiting`, so that one of the two always has it.
        """
        streams = self._address(url).streams
        streams[id(response)] = _Stream(response)
        try:
            yield
        finally:
            del streams[id(response)]

    def _address(self, url: str) -> _Address:
        return self._addresses.setdefault(url, _Address())

    def _is_dead(self, url: str) -> bool:
        address = self._addresses[url]
        return url in self._silent and address.last_missed - address.silent_since >= self._dead_after_s

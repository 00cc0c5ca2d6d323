"""What this router has under way, for its siblings to hear of. In the way of every request, so it only appends."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvpool_router.siblings.deeds import Anew, Deed, Done, FirstToken, Sent

MOST_WAITING = 4096
"""Deeds that a sibling may be behind; one that is slower is told anew what is open, and loses what was between."""
MOST_WAITING_BYTES = 32 << 20
"""The same of the prompts in them: a sibling that hangs must not keep the prompts of thousands of requests here."""


class Listener:
    """What one sibling has not been told yet."""

    def __init__(self, everything: Callable[[], list[Deed]], most: int = MOST_WAITING) -> None:
        self.news = asyncio.Event()
        self._everything = everything
        self._most = most
        self._waiting: list[Deed] = []
        self._waiting_bytes = 0
        self._lost = False
        self.tell_anew()

    def tell(self, deed: Deed) -> None:
        self._waiting.append(deed)
        self._waiting_bytes += sum(map(len, deed.prompts)) if isinstance(deed, Sent) else 0
        self.news.set()
        if len(self._waiting) > self._most or self._waiting_bytes > MOST_WAITING_BYTES:
            self.tell_anew()

    def tell_anew(self) -> None:
        """Begins with what is open at the time of the next `drawn`."""
        self._waiting, self._waiting_bytes = [], 0
        self._lost = True
        self.news.set()

    def drawn(self) -> list[Deed]:
        """What has gathered since the last time."""
        self.news.clear()
        if self._lost:
            self._lost = False
            self._waiting, self._waiting_bytes = [], 0
            return [Anew(), *self._everything()]
        drawn, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return drawn


class Outbox:
    """Requests between being sent and done, and who listens."""

    def __init__(self) -> None:
        self.finishing = False
        """This router stops: its streams end once nothing is open."""
        self._open: dict[int, list[Deed]] = {}
        self._listeners: list[Listener] = []
        self._last = 0

    def next_number(self) -> int:
        self._last += 1
        return self._last

    def sent(self, deed: Sent) -> None:
        self._open[deed.number] = [deed]
        for listener in self._listeners:
            listener.tell(deed)

    def first_token(self, number: int) -> None:
        deed = FirstToken(number)
        self._open[number].append(deed)
        for listener in self._listeners:
            listener.tell(deed)

    def done(self, number: int, *, computed: bool) -> None:
        """Idempotent."""
        if self._open.pop(number, None) is not None:
            for listener in self._listeners:
                listener.tell(Done(number, computed))

    @property
    def open(self) -> int:
        return len(self._open)

    def finish(self) -> None:
        self.finishing = True
        for listener in self._listeners:
            listener.news.set()

    @contextmanager
    def listening(self, most: int = MOST_WAITING) -> Iterator[Listener]:
        """A listener that hears, from what is open now on, of everything in the block."""
        listener = Listener(self._everything, most)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def _everything(self) -> list[Deed]:
        return [deed for deeds in self._open.values() for deed in deeds]

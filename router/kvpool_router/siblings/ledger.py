"""One sibling's requests in this router's books, so that load, predictions and history count them as its own. Pure."""

from collections.abc import Callable
from typing import Protocol

from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load, Ticket
from kvpool_router.siblings.deeds import Anew, Deed, Done, FirstToken, Sent
from kvpool_router.workers import Incarnation, WorkerId


class Expectations(Protocol):
    """What the ledger needs of the cache map."""

    def sent(self, worker: WorkerId, tokens: bytes, namespace: Namespace, now: float) -> None: ...

    def unsent(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None: ...

    def settle(self) -> None: ...


class Ledger:
    """What is booked here is open at the sibling; once the sibling is not heard any more, nothing is.

    What was open at a sibling that is not heard any more is expected nowhere: its answers went with it, or it is told
    anew. A worker that this router does not know, or knows as another process, is not booked: nobody would ever drop
    it.
    """

    def __init__(self, load: Load, cache: Expectations, process_of: Callable[[WorkerId], Incarnation | None]) -> None:
        self._load = load
        self._cache = cache
        self._process_of = process_of
        self._open: dict[int, tuple[Ticket, Sent]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, deed: Deed, now: float) -> None:
        """In the order in which the sibling tells; what is told of requests that are not booked changes nothing."""
        match deed:
            case Sent():
                self._book(deed, now)
            case FirstToken():
                if (booked := self._open.get(deed.number)) is not None:
                    self._load.first_token(booked[0], now)
            case Done():
                self._end(deed.number, now, computed=deed.computed)
            case Anew():
                self.close(now)

    def close(self, now: float) -> None:
        """The sibling is not heard any more."""
        for number in tuple(self._open):
            self._end(number, now, computed=False)

    def _end(self, number: int, now: float, *, computed: bool) -> None:
        ticket, sent = self._open.pop(number, (None, None))
        if ticket is None or sent is None:
            return
        self._load.done(ticket, now)
        for prompt in () if computed else sent.prompts:
            self._cache.unsent(sent.worker, prompt, sent.namespace)

    def _book(self, deed: Sent, now: float) -> None:
        if deed.number in self._open or self._process_of(deed.worker) != deed.incarnation:
            return
        ticket = self._load.sent(
            deed.worker,
            deed.prompt_tokens,
            deed.held_tokens,
            streams=deed.streams,
            now=now,
            certain=deed.certain,
            own=False,
            loaded_tokens=deed.loaded_tokens,
        )
        self._open[deed.number] = ticket, deed
        for prompt in deed.prompts:
            self._cache.sent(deed.worker, prompt, deed.namespace, now)
        self._cache.settle()

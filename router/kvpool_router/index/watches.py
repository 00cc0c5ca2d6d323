"""Prompts whose place in the map is watched while they are under way."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from kvpool_router.index.namespace import Namespace

Reach = Callable[[int, bytes, Namespace], int]
"""How many leading blocks of a prompt a seat has, by events."""


@dataclass(slots=True, eq=False)
class Watch:
    """What events have said of one prompt at one worker since the watch began, in whole leading blocks."""

    tokens: bytes
    namespace: Namespace
    at_first: int
    least: int
    most: int
    lost: bool = False
    """The worker's map was dropped or suspended meanwhile, so that nothing can be said."""


class Watches:
    """Looks at watched prompts only where an extreme can be: between removals and stores.

    While blocks are only stored what a worker has of a prompt only grows, and while they are only removed it only
    shrinks. So it is enough to look before the first removal after stores, and before the first store after removals;
    without watches an event costs one look into a dictionary.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._watches: defaultdict[int, set[Watch]] = defaultdict(set)
        self._looked_away: defaultdict[int, set[Watch]] = defaultdict(set)
        self._shrinking: set[int] = set()
        """Seats whose last event was a removal."""

    def begin(self, seat: int, tokens: bytes, namespace: Namespace) -> Watch:
        held = self._reach(seat, tokens, namespace)
        watch = Watch(tokens, namespace, held, held, held)
        self._watches[seat].add(watch)
        return watch

    def look_away(self, seat: int, watch: Watch) -> None:
        """Looks a last time. The watch can still be lost."""
        if watch in self._watches.get(seat, ()):
            self._look(seat, watch)
            _discard(self._watches, seat, watch)
            self._looked_away[seat].add(watch)

    def end(self, seat: int, watch: Watch) -> None:
        _discard(self._watches, seat, watch)
        _discard(self._looked_away, seat, watch)

    def before_store(self, seat: int) -> None:
        if seat in self._shrinking:
            self._shrinking.discard(seat)
            self._look_at_all(seat)

    def before_removal(self, seat: int) -> None:
        if seat in self._watches and seat not in self._shrinking:
            self._look_at_all(seat)
            self._shrinking.add(seat)

    def lose(self, seat: int) -> None:
        """What the seat's events say is not to be relied on from here."""
        self._shrinking.discard(seat)
        for watch in (*self._watches.pop(seat, ()), *self._looked_away.pop(seat, ())):
            watch.lost = True

    def _look_at_all(self, seat: int) -> None:
        for watch in self._watches.get(seat, ()):
            self._look(seat, watch)

    def _look(self, seat: int, watch: Watch) -> None:
        held = self._reach(seat, watch.tokens, watch.namespace)
        watch.least = min(watch.least, held)
        watch.most = max(watch.most, held)


def _discard(watches: dict[int, set[Watch]], seat: int, watch: Watch) -> None:
    those = watches.get(seat)
    if those is not None:
        those.discard(watch)
        if not those:
            del watches[seat]

"""A pool's children between two rounds: who hears of each change need not read them again for every look at routers."""

from collections.abc import Mapping

from kvpool_api.manifest import Manifest

from kvpool_operator.observed import ChildKey


class LastRead:
    """Children as they were last read: good until there is news of the pool, and never longer than a resync."""

    def __init__(self, good_for_s: float) -> None:
        self._good_for_s = good_for_s
        self._read_at = 0.0
        self._children: Mapping[ChildKey, Manifest] | None = None

    def children(self, now: float) -> Mapping[ChildKey, Manifest] | None:
        """None: they are to be read anew. `now` in seconds since the epoch."""
        return self._children if now - self._read_at < self._good_for_s else None

    def keep(self, children: Mapping[ChildKey, Manifest], now: float) -> None:
        """Those of a round that had nothing to mend; keeping what `children` gave does not make it any newer."""
        if children is not self._children:
            self._children, self._read_at = children, now

    def forget(self) -> None:
        self._children = None

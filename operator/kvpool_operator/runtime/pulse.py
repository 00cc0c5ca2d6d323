"""Whether the operator still does its work: every watch is opened anew and every pool is visited in good time."""

from collections.abc import Callable, Iterable, Iterator

from kvpool_operator.cluster.seam import Ref


class Pulse:
    """When each watch was last opened, and when each pool last had a round.

    The API server ends a watch after some minutes and a silent one is cut by us, so a watch that lives is opened again
    and again, news or none. A pool has a round at least once a resync. A round that fails counts: its loop lives, and
    starting the operator anew would mend neither the API server nor a pool.
    """

    def __init__(
        self, watches: Iterable[str], *, clock: Callable[[], float], watch_limit_s: float, round_limit_s: float
    ) -> None:
        """`watches` are paths in the API; they count as opened now."""
        self._clock = clock
        self._watch_limit_s = watch_limit_s
        self._round_limit_s = round_limit_s
        self._opened = dict.fromkeys(watches, clock())
        self._visited: dict[Ref, float] = {}

    def watch_opened(self, path: str) -> None:
        self._opened[path] = self._clock()

    def pool_begins(self, pool: Ref) -> None:
        self._visited[pool] = self._clock()

    def pool_visited(self, pool: Ref) -> None:
        self._visited[pool] = self._clock()

    def pool_ends(self, pool: Ref) -> None:
        self._visited.pop(pool, None)

    def pools(self) -> int:
        return len(self._visited)

    def longest_unvisited_s(self) -> float:
        """Seconds since the last round of the pool that has waited longest; 0 without pools."""
        now = self._clock()
        return now - min(self._visited.values(), default=now)

    def complaints(self) -> Iterator[str]:
        """What is overdue."""
        now = self._clock()
        for path, at in self._opened.items():
            if now - at > self._watch_limit_s:
                yield f"the watch of {path} was last opened {now - at:.0f} s ago"
        for pool, at in self._visited.items():
            if now - at > self._round_limit_s:
                yield f"pool {pool.namespace}/{pool.name} had its last round {now - at:.0f} s ago"

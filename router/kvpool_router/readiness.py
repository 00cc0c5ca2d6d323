"""Whether this router may be sent traffic."""

from collections.abc import Callable, Sequence

from kvpool_router.workers import Roster, Worker


class Readiness:
    """Not ready until the pool's workers are known, their events replayed and the tokenizer on disk loaded, if any.

    The last two are waited for no longer than `sync_timeout_s`; a hub is not waited for: engines tokenize meanwhile.

    Once ready it stays so until it stops: a worker that comes late, or an event plane in trouble, refuses no traffic.
    Without engines too: clients are better told by a 503 with its reason than by a Service that nobody listens behind.
    """

    def __init__(
        self,
        roster: Roster,
        synced: Callable[[Worker], bool],
        tokenizer_settled: Callable[[], bool],
        membership_trouble: Callable[[], str | None],
        clock: Callable[[], float],
        sync_timeout_s: float,
    ) -> None:
        self._roster = roster
        self._synced = synced
        self._tokenizer_settled = tokenizer_settled
        self._membership_trouble = membership_trouble
        self._clock = clock
        self._deadline = clock() + sync_timeout_s
        self._reached = False
        self._stopping = False

    def stop(self) -> None:
        """The process is told to end: new connections should go elsewhere."""
        self._stopping = True

    @property
    def settled(self) -> bool:
        """It has been ready, and so has a map that is worth giving, or will not be any more."""
        return self._reached or self._stopping

    def judge(self) -> tuple[bool, str]:
        """Ready or not, and one sentence that says why."""
        if self._stopping:
            return False, "The router is stopping."
        late = self._late()
        if not self._reached:
            waiting = self._waits_for(late)
            if waiting is not None:
                return False, waiting
            self._reached = True
        return True, self._told(late) + self._stale()

    def _told(self, late: Sequence[str]) -> str:
        if not self._roster.accepting():
            return "Ready, but no engine takes requests now; clients get 503 until one does."
        return f"Ready without {', '.join(late)}." if late else "Ready."

    def _stale(self) -> str:
        """What is amiss with the list of engines; requests go on to those that were known last."""
        trouble = self._membership_trouble()
        return f" But {trouble}." if trouble else ""

    def _waits_for(self, late: Sequence[str]) -> str | None:
        if not self._roster.known:
            trouble = self._membership_trouble()
            return f"The pool's workers are not known yet{f': {trouble}' if trouble else ''}."
        if late and self._clock() < self._deadline:
            return f"Waiting for {', '.join(late)}."
        return None

    def _late(self) -> list[str]:
        late = [f"the KV events of {worker.id}" for worker in self._roster.accepting() if not self._synced(worker)]
        return late if self._tokenizer_settled() else [*late, "the model's tokenizer"]

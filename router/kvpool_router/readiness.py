"""Whether this router may be sent traffic."""

from collections.abc import Callable

from kvpool_router.workers import Roster, Worker


class Readiness:
    """Not ready until the pool's workers are known, their events replayed and the tokenizer loaded.

    The last two are waited for no longer than `sync_timeout_s`.

    Once ready it stays so until it stops: a worker that comes late, or an event plane in trouble, refuses no traffic.
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
        self._reached: str | None = None
        self._stopping = False

    def stop(self) -> None:
        """The process is told to end: new connections should go elsewhere."""
        self._stopping = True

    def judge(self) -> tuple[bool, str]:
        """Ready or not, and one sentence that says why."""
        if self._stopping:
            return False, "The router is stopping."
        if self._reached is None:
            waiting = self._waits_for()
            if waiting is not None:
                return False, waiting
        return True, self._reached or ""

    def _waits_for(self) -> str | None:
        if not self._roster.known:
            trouble = self._membership_trouble()
            return f"The pool's workers are not known yet{f': {trouble}' if trouble else ''}."
        late = [f"the KV events of {worker.id}" for worker in self._roster.accepting() if not self._synced(worker)]
        if not self._tokenizer_settled():
            late.append("the model's tokenizer")
        if late and self._clock() < self._deadline:
            return f"Waiting for {', '.join(late)}."
        self._reached = f"Ready without {', '.join(late)}." if late else "Ready."
        return None

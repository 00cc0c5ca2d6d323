"""One circuit per worker: a worker that fails again and again is left alone for a moment, then tried with one request.

closed ──failures──> open ──a second──> half open: one request ──it succeeds──> closed
└────────────────────────it fails───────────────<──┘
"""

from dataclasses import dataclass

from kvpool_router.workers import WorkerId

FAILURES_TO_OPEN = 3
PROBE_AFTER_S = 1.0


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    retry_at: float | None = None
    """When the next request may try it; None while closed."""


class Breaker:
    """Circuits of all workers that have failed lately. No clock inside."""

    def __init__(self, failures_to_open: int = FAILURES_TO_OPEN, probe_after_s: float = PROBE_AFTER_S) -> None:
        self._limit = failures_to_open
        self._pause_s = probe_after_s
        self._circuits: dict[WorkerId, _Circuit] = {}

    def admits(self, worker: WorkerId, now: float) -> bool:
        """Whether the worker may be sent a request."""
        circuit = self._circuits.get(worker)
        return circuit is None or circuit.retry_at is None or now >= circuit.retry_at

    @property
    def all_closed(self) -> bool:
        """No worker has failed lately."""
        return not self._circuits

    def is_open(self, worker: WorkerId) -> bool:
        circuit = self._circuits.get(worker)
        return circuit is not None and circuit.retry_at is not None

    def sending(self, worker: WorkerId, now: float) -> None:
        """A request goes out; on a half-open circuit it is the only one until it is known how it went."""
        circuit = self._circuits.get(worker)
        if circuit is not None and circuit.retry_at is not None:
            circuit.retry_at = now + self._pause_s

    def succeeded(self, worker: WorkerId) -> None:
        """The worker answered."""
        self._circuits.pop(worker, None)

    def failed(self, worker: WorkerId, now: float) -> None:
        """No connection, a connection that died before the first byte, or 502 and 503."""
        circuit = self._circuits.setdefault(worker, _Circuit())
        circuit.failures += 1
        if circuit.failures >= self._limit:
            circuit.retry_at = now + self._pause_s

    def forget(self, worker: WorkerId) -> None:
        """The worker is gone, or its process is a new one."""
        self._circuits.pop(worker, None)

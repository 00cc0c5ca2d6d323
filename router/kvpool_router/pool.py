"""Passes each snapshot of the pool's workers on to every part that keeps something for each of them."""

import logging
from dataclasses import dataclass

from kvpool_router.audit.auditor import Audit
from kvpool_router.breaker import Breaker
from kvpool_router.engine_metrics import EngineMetrics, Reading
from kvpool_router.events.plane import EventPlane
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.load import Load
from kvpool_router.metrics import RequestMetrics
from kvpool_router.workers import Roster, Worker, WorkerId

LOG = logging.getLogger(__name__)

REMEMBERED_CACHES = 2
"""The history of a worker is bounded to so many times its cache."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What a router keeps about workers. A worker that is gone leaves nothing behind in any of it."""

    roster: Roster
    cache: CacheMap
    plane: EventPlane
    load: Load
    breaker: Breaker
    requests: RequestMetrics
    audit: Audit

    def take(self, workers: tuple[Worker, ...], metrics: EngineMetrics) -> None:
        """The roster first: from then on nobody who is draining is chosen."""
        before = {worker.id: worker for worker in self.roster.workers}
        self.roster.replace(workers)
        self.plane.follow(workers)
        metrics.follow(workers)
        for worker in workers:
            known = before.pop(worker.id, None)
            if known is None or known.incarnation != worker.incarnation:
                self.breaker.forget(worker.id)
                self.audit.forget(worker.id)
                LOG.info("engine process found at %s", worker.url, extra={"worker": worker.id})
        for gone in before:
            self._forget(gone)

    def read(self, worker: WorkerId, reading: Reading) -> None:
        """An engine's own account came in."""
        self.plane.read(worker, reading)
        if reading.cache_tokens is not None:
            self.cache.set_history(worker, REMEMBERED_CACHES * reading.cache_tokens)
        if reading.running is not None and reading.waiting is not None:
            self.load.observed(worker, reading.running, reading.waiting, reading.read_at)

    def _forget(self, worker: WorkerId) -> None:
        LOG.info("worker is gone", extra={"worker": worker})
        self.load.drop(worker)
        self.breaker.forget(worker)
        self.requests.forget(worker)
        self.audit.forget(worker)

"""What this router knows, in the words of the admin API."""

from collections.abc import Callable
from dataclasses import dataclass

from kvpool_api.wire import EventState, RouterState, WorkerState

from kvpool_router.decisions import DecisionLog
from kvpool_router.engine_metrics import EngineMetrics, Reading
from kvpool_router.events.plane import EventStanding
from kvpool_router.liveness import Liveness
from kvpool_router.pool import Pool
from kvpool_router.readiness import Readiness
from kvpool_router.tokens.protocol import Tokenizer
from kvpool_router.workers import Worker

_NOT_FOLLOWED = EventStanding(
    EventState.APPROXIMATE, "The worker has just been seen; its events are not followed yet.", synced=False
)


@dataclass(frozen=True, slots=True)
class StateReport:
    """Puts the router's state together from the parts that hold it."""

    router: str
    tokenizer: Tokenizer
    pool: Pool
    metrics: EngineMetrics
    readiness: Readiness
    decisions: DecisionLog
    liveness: Liveness
    clock: Callable[[], float]

    def state(self) -> RouterState:
        ready, reason = self.readiness.judge()
        return RouterState(
            router=self.router,
            ready=ready,
            ready_reason=reason,
            tokenizer=self.tokenizer.description,
            strategy=self.decisions.strategy,
            queue=self.decisions.unplaced,
            window=self.decisions.window(self.clock()),
            workers=[self.worker_state(worker) for worker in self.pool.roster.workers],
        )

    def worker_state(self, worker: Worker) -> WorkerState:
        """`draining` acknowledges: since it reads true, this router has chosen the worker for nothing."""
        standing = self.pool.plane.standing(worker.id) or _NOT_FOLLOWED
        reading = self.metrics.reading(worker.id) or Reading()
        return WorkerState(
            pod=worker.id.pod,
            pod_uid=worker.pod_uid,
            dp_rank=worker.id.dp_rank,
            url=worker.url,
            events=standing.state,
            events_reason=standing.reason,
            synced=standing.synced,
            blocks=standing.blocks,
            last_sequence=standing.last_sequence,
            lag_ms=None if standing.lag_ms is None else round(standing.lag_ms, 2),
            gaps=standing.gaps,
            skipped_events=standing.skipped_events,
            wiring_confirmed=standing.wiring_confirmed,
            ready=worker.ready,
            draining=worker.draining or worker.terminating,
            in_flight=self.pool.load.in_flight(worker.id),
            queued_prefill_tokens=self.pool.load.queued_tokens(worker.id),
            running=reading.running,
            waiting=reading.waiting,
            kv_usage_percent=reading.kv_usage_percent,
            circuit_open=self.pool.breaker.is_open(worker.id) or self.liveness.is_silent(worker.url),
        )

"""What this router knows, in the words of the admin API."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from kvpool_api.wire import EventState, MapTrust, RouterState, SiblingState, WorkerAudit, WorkerState

from kvpool_router.audit.auditor import Account
from kvpool_router.decisions import DecisionLog
from kvpool_router.engine_metrics import EngineMetrics, Reading
from kvpool_router.events.plane import EventStanding
from kvpool_router.liveness import Liveness
from kvpool_router.pool import Pool
from kvpool_router.readiness import Readiness
from kvpool_router.siblings.arrival import Arrival
from kvpool_router.siblings.following import Siblings
from kvpool_router.tokens.canary import Canary
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
    siblings: Siblings
    arrival: Arrival
    clock: Callable[[], float]
    canary: Canary

    def state(self) -> RouterState:
        ready, reason = self.readiness.judge()
        now = self.clock()
        self.pool.audit.settle(now)
        return RouterState(
            router=self.router,
            ready=ready,
            ready_reason=reason,
            tokenizer=self.tokenizer.description,
            strategy=self.decisions.strategy,
            queue=self.decisions.unplaced,
            window=self.decisions.window(now),
            map_origin=self.arrival.told,
            siblings=[
                SiblingState(
                    router=each.router.name,
                    heard=each.trouble is None,
                    reason=each.trouble or "Heard.",
                    in_flight=len(each.ledger),
                )
                for each in self.siblings.followed
            ],
            workers=[self.worker_state(worker) for worker in self.pool.roster.workers],
        )

    def worker_state(self, worker: Worker) -> WorkerState:
        """`draining` acknowledges: since it reads true, this router has chosen the worker for nothing."""
        account = self.pool.audit.account(worker.id)
        standing = _doubted(self.pool.plane.standing(worker.id) or _NOT_FOLLOWED, account)
        reading = self.metrics.reading(worker.id) or Reading()
        tokens = self.canary.verdict(worker)
        return WorkerState(
            pod=worker.id.pod,
            pod_uid=worker.pod_uid,
            dp_rank=worker.id.dp_rank,
            url=worker.url,
            events=standing.state,
            events_reason=standing.reason,
            synced=standing.synced,
            blocks=standing.blocks,
            blocks_below_gpu=standing.blocks_below_gpu,
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
            audit=_audited(account),
            tokens=tokens.parity,
            tokens_reason=tokens.reason,
        )


def _doubted(standing: EventStanding, account: Account) -> EventStanding:
    """As far as events go all may be well, and yet the map be wrong."""
    opinion = account.opinion
    if opinion.trust is MapTrust.TRUSTED or standing.state is EventState.APPROXIMATE:
        return standing
    return replace(standing, state=EventState.DEGRADED, reason=opinion.reason)


def _audited(account: Account) -> WorkerAudit:
    latest = len(account.latest)
    return WorkerAudit(
        trust=account.opinion.trust,
        equal_percent=round(100 * account.equal_answers / latest, 2) if latest else None,
        true_percent=round(100 * account.true_answers / latest, 2) if latest else None,
        outcomes={outcome.value: count for outcome, count in account.outcomes.items()},
        over_blocks=account.over_blocks,
        under_blocks=account.under_blocks,
        reported=account.details,
    )

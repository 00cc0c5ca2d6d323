"""The operator's Prometheus metrics: rounds and actions as they happen, pools as they stand when somebody looks."""

from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from kvpool_api.conditions import ConditionStatus
from kvpool_api.status import InferencePoolStatus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kvpool_operator.cluster.seam import Ref
from kvpool_operator.plan.actions import Done
from kvpool_operator.runtime.pulse import Pulse

ROUND_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_POOL = ("namespace", "pool")
_STATUSES: tuple[ConditionStatus, ...] = get_args(ConditionStatus)


class OperatorMetrics:
    """A `Journal` that counts, and keeps the pulse."""

    def __init__(self, registry: CollectorRegistry, pulse: Pulse, clock: Callable[[], float]) -> None:
        """`clock` tells seconds since the epoch."""
        self._pulse = pulse
        self._rounds = Counter(
            "kvpool_operator_reconciles",
            "Rounds (observe, plan, act, report), by outcome (`ok`; `failed`: broken off by an error and tried again).",
            ("outcome",),
            registry=registry,
        )
        self._seconds = Histogram(
            "kvpool_operator_reconcile_seconds",
            "How long rounds took, failed ones too.",
            buckets=ROUND_BUCKETS_S,
            registry=registry,
        )
        self._actions = Counter(
            "kvpool_operator_actions",
            "Actions on what pools own, by kind and outcome (`done`, `refused`).",
            ("action", "outcome"),
            registry=registry,
        )
        self._calls = Counter(
            "kvpool_operator_api_calls",
            "Calls to the API server, by verb (HTTP method, or `watch`) and status code (`none`: no answer).",
            ("verb", "code"),
            registry=registry,
        )
        self._pools = _PoolGauges(registry, clock)
        registry.register(_PulseGauges(pulse))

    def pool_begins(self, pool: Ref) -> None:
        self._pulse.pool_begins(pool)

    def pool_ends(self, pool: Ref) -> None:
        self._pulse.pool_ends(pool)
        self._pools.forget(pool)

    def round_ends(self, pool: Ref, seconds: float, error: Exception | None) -> None:
        self._pulse.pool_visited(pool)
        self._seconds.observe(seconds)
        self._rounds.labels("ok" if error is None else "failed").inc()
        if error is None:
            self._pools.visited(pool)

    def acted(self, done: Sequence[Done]) -> None:
        for each in (each for each in done if not each.overtaken):
            outcome = "done" if each.refused is None else "refused"
            self._actions.labels(type(each.action).__name__, outcome).inc()

    def reported(self, pool: Ref, status: InferencePoolStatus) -> None:
        self._pools.show(pool, status)

    def called(self, verb: str, code: str) -> None:
        self._calls.labels(verb, code).inc()


class _PoolGauges:
    """What the last round of each pool saw, and when it was."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._condition = Gauge(
            "kvpool_operator_pool_condition",
            "A pool's condition: 1 for the status (`True`, `False`, `Unknown`) that it has, 0 for the others.",
            (*_POOL, "condition", "status"),
            registry=registry,
        )
        self._replicas = Gauge(
            "kvpool_operator_pool_replicas",
            "Engine Pods of a pool, by state (`desired`, `existing`, `ready`, `routable`, `outdated`).",
            (*_POOL, "state"),
            registry=registry,
        )
        self._visited = Gauge(
            "kvpool_operator_last_reconcile_timestamp_seconds",
            "When the last round of a pool ran to its end, in seconds since the epoch.",
            _POOL,
            registry=registry,
        )

    def visited(self, pool: Ref) -> None:
        self._visited.labels(pool.namespace, pool.name).set(self._clock())

    def show(self, pool: Ref, status: InferencePoolStatus) -> None:
        for condition in status.conditions:
            for value in _STATUSES:
                series = self._condition.labels(pool.namespace, pool.name, condition.type, value)
                series.set(condition.status == value)
        for state, count in (
            ("desired", status.desired_replicas),
            ("existing", status.replicas),
            ("ready", status.ready_replicas),
            ("routable", status.routable_replicas),
            ("outdated", status.outdated_replicas),
        ):
            self._replicas.labels(pool.namespace, pool.name, state).set(count)

    def forget(self, pool: Ref) -> None:
        whose = {"namespace": pool.namespace, "pool": pool.name}
        for gauge in (self._condition, self._replicas, self._visited):
            gauge.remove_by_labels(whose)


class _PulseGauges(Collector):
    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("kvpool_operator_pools", "Pools that have a loop.", value=self._pulse.pools())
        yield GaugeMetricFamily(
            "kvpool_operator_longest_unvisited_seconds",
            "Time since the last round of the pool that has waited longest for one; 0 without pools.",
            value=self._pulse.longest_unvisited_s(),
        )

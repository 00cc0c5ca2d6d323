"""The router's Prometheus metrics: requests as they end, workers as they stand when somebody looks."""

from collections.abc import Callable, Iterable

from kvpool_api.wire import (
    EventState,
    MapTrust,
    RouterState,
    SiblingState,
    TokenParity,
    UntokenizedCause,
    WorkerState,
)
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kvpool_router.audit.comparison import Outcome
from kvpool_router.decisions import Record
from kvpool_router.workers import WorkerId

TTFT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
PLACEMENT_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_WORKER = ("pod", "dp_rank")


class RequestMetrics:
    """Counts what the door does (its `Observer`). Children are bound once a label set and kept."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "kvpool_router_requests",
            "Requests answered by an engine or broken off, by path and outcome (`ok`, `client gone`, an error's code).",
            ("path", "outcome"),
            registry=registry,
        )
        self._refused = Counter(
            "kvpool_router_refused_requests",
            "Requests that the router answered with an error of its own, by HTTP status.",
            ("status",),
            registry=registry,
        )
        self._untokenized = Counter(
            "kvpool_router_untokenized_requests",
            "Requests whose prompt could not be turned into token ids, by cause; they are placed by load alone.",
            ("path", "cause"),
            registry=registry,
        )
        self._bound: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self._ttft = Histogram(
            "kvpool_router_time_to_first_token_seconds",
            "From a request's arrival to the first byte of its answer's body.",
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self._placement = Histogram(
            "kvpool_router_placement_seconds",
            "Tokenizing, cache lookup and choice of a worker for one request.",
            buckets=PLACEMENT_BUCKETS_S,
            registry=registry,
        )
        self._tokens = _TokenCounters(registry)
        self.sent: dict[WorkerId, int] = {}
        """Requests sent, by worker; `WorkerMetrics` shows those of workers that are still there."""
        self.retried_from: dict[WorkerId, int] = {}

    def placed(self, record: Record, seconds: float) -> None:
        self._placement.observe(seconds)
        if record.worker is not None:
            self.sent[record.worker] = self.sent.get(record.worker, 0) + 1

    def retried(self, worker: WorkerId, why: str) -> None:
        self.retried_from[worker] = self.retried_from.get(worker, 0) + 1

    def opaque(self, path: str, cause: UntokenizedCause) -> None:
        self._child(self._untokenized, path, cause).inc()

    def finished(self, record: Record) -> None:
        self._child(self._requests, record.path, record.outcome).inc()
        if record.ttft_s is not None:
            self._ttft.observe(record.ttft_s)
        self._tokens.count(record)

    def refused(self, path: str, status: int) -> None:
        """The path may be anything a client thinks of, so it is no label."""
        self._child(self._refused, str(status)).inc()

    def forget(self, worker: WorkerId) -> None:
        self.sent.pop(worker, None)
        self.retried_from.pop(worker, None)

    def _child(self, counter: Counter, *labels: str) -> Counter:
        child = self._bound.get((counter, labels))
        if child is None:
            child = self._bound[counter, labels] = counter.labels(*labels)
        return child


class _TokenCounters:
    """Tokens of finished requests for which the engine reported what it found cached: the terms of the hit rate."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._prompt = Counter(
            "kvpool_router_prompt_tokens", "Prompt tokens, as engines report them.", registry=registry
        )
        self._cached = Counter(
            "kvpool_router_cached_tokens",
            "Prompt tokens that engines found in their caches; over prompt tokens this is the hit rate.",
            registry=registry,
        )
        self._predicted = Counter(
            "kvpool_router_predicted_cached_tokens",
            "Cached tokens that the router had expected for the same requests; near cached tokens if its map is true.",
            registry=registry,
        )
        self._output = Counter("kvpool_router_output_tokens", "Tokens generated, as engines report.", registry=registry)

    def count(self, record: Record) -> None:
        usage = record.usage
        if usage is None or usage.cached_tokens is None:
            return
        self._prompt.inc(usage.prompt_tokens)
        self._cached.inc(usage.cached_tokens)
        self._predicted.inc(record.predicted_cached_tokens or 0)
        self._output.inc(usage.output_tokens)


_GAUGES: tuple[tuple[str, str, Callable[[WorkerState], float | None]], ...] = (
    ("blocks", "KV blocks that the router's map holds for the worker.", lambda w: w.blocks),
    (
        "blocks_below_gpu",
        "KV blocks that the router's map holds for the worker below its GPU: in main memory and on storage.",
        lambda w: w.blocks_below_gpu,
    ),
    ("events_synced", "1 if subscribed to the worker's KV events and replayed.", lambda w: w.synced),
    ("last_sequence", "Sequence number of the last KV event batch applied.", lambda w: w.last_sequence),
    (
        "events_lag_seconds",
        "Age of the newest live KV event batch when it was applied, by the engine's clock.",
        lambda w: None if w.lag_ms is None else w.lag_ms / 1000,
    ),
    (
        "map_trusted",
        "0 while the engine's answers contradict the map, so that the worker is chosen by load alone.",
        lambda w: None if w.audit is None else w.audit.trust is not MapTrust.DISTRUSTED,
    ),
    ("ready", "1 if the containers of the worker's pod are ready.", lambda w: w.ready),
    ("draining", "1 if the worker is sent nothing new.", lambda w: w.draining),
    (
        "tokens_agree",
        "1 if the worker makes the same token ids of a prompt as this router, 0 if others; absent while unknown.",
        lambda w: None if w.tokens is TokenParity.UNKNOWN else w.tokens is TokenParity.AGREES,
    ),
    ("circuit_open", "1 if the worker is left alone after repeated failures.", lambda w: w.circuit_open),
    ("in_flight_requests", "Requests of this router at the worker.", lambda w: w.in_flight),
    (
        "queued_prefill_tokens",
        "Uncached prompt tokens sent by this router and not yet prefilled.",
        lambda w: w.queued_prefill_tokens,
    ),
    ("engine_running_requests", "Running requests, by the engine's own metrics.", lambda w: w.running),
    ("engine_waiting_requests", "Waiting requests, by the engine's own metrics.", lambda w: w.waiting),
    (
        "engine_kv_usage_ratio",
        "Share of the KV cache in use, by the engine's own metrics.",
        lambda w: None if w.kv_usage_percent is None else w.kv_usage_percent / 100,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[WorkerState], float]], ...] = (
    ("event_gaps", "Times that KV event batches were missing and a replay was asked for.", lambda w: w.gaps),
    ("skipped_events", "KV events that could not be read.", lambda w: w.skipped_events),
    (
        "overcredited_blocks",
        "Blocks that audited requests were expected to find cached and did not.",
        lambda w: 0 if w.audit is None else w.audit.over_blocks,
    ),
    (
        "undercredited_blocks",
        "Blocks that audited requests found cached beyond what was expected.",
        lambda w: 0 if w.audit is None else w.audit.under_blocks,
    ),
)


class WorkerMetrics(Collector):
    """One series a worker or sibling, read from the state at the time of the scrape: who is gone leaves none behind."""

    def __init__(
        self,
        state: Callable[[], RouterState],
        requests: RequestMetrics,
        membership_trouble: Callable[[], str | None],
    ) -> None:
        self._state = state
        self._requests = requests
        self._membership_trouble = membership_trouble

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not need a state yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield _flag("ready", "1 if this router may be sent traffic.", state.ready)
        yield _flag(
            "membership_trouble",
            "1 while the pool's Pods cannot be followed (the last known ones stand) or one had to be left out.",
            self._membership_trouble() is not None,
        )
        yield _heard(state.siblings)
        for name, text, value in _GAUGES:
            yield _gauge(name, text, ((worker, value(worker)) for worker in state.workers))
        for name, text, count in _COUNTERS:
            yield _counter(name, text, ((worker, count(worker)) for worker in state.workers))
        yield _event_states(state.workers)
        yield _audited_answers(state.workers)
        sent, retried = self._requests.sent, self._requests.retried_from
        yield _counter("requests", "Requests sent to the worker.", ((w, sent.get(_id(w), 0)) for w in state.workers))
        yield _counter(
            "retried_requests",
            "Requests that the worker failed before the first byte, so that another was asked.",
            ((w, retried.get(_id(w), 0)) for w in state.workers),
        )


def _flag(name: str, text: str, is_so: bool) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"kvpool_router_{name}", text)
    family.add_metric((), is_so)
    return family


def _heard(siblings: Iterable[SiblingState]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "kvpool_router_sibling_heard",
        "1 if this router hears from the sibling what it sends where, 0 if not: then that is not counted in.",
        labels=("sibling",),
    )
    for each in siblings:
        family.add_metric((each.router,), each.heard)
    return family


def _gauge(name: str, text: str, values: Iterable[tuple[WorkerState, float | None]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"kvpool_router_worker_{name}", text, labels=_WORKER)
    for worker, value in values:
        if value is not None:
            family.add_metric(_labels(worker), value)
    return family


def _counter(name: str, text: str, values: Iterable[tuple[WorkerState, float]]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"kvpool_router_worker_{name}", text, labels=_WORKER)
    for worker, value in values:
        family.add_metric(_labels(worker), value)
    return family


def _event_states(workers: Iterable[WorkerState]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "kvpool_router_worker_events_state",
        "1 for the state of the worker's KV events, 0 for the others: EXACT, DEGRADED, APPROXIMATE.",
        labels=(*_WORKER, "state"),
    )
    for worker in workers:
        for state in EventState:
            family.add_metric((*_labels(worker), state.value), state is worker.events)
    return family


def _audited_answers(workers: Iterable[WorkerState]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "kvpool_router_worker_audited_answers",
        "Answers whose reported cached tokens were held against the map, by outcome: equal; more found and known by"
        " events (learned) or not (missed); less found, and evicted meanwhile, only expected (unfulfilled), or false;"
        " unknown.",
        labels=(*_WORKER, "outcome"),
    )
    for worker in workers:
        for outcome in Outcome:
            count = 0 if worker.audit is None else worker.audit.outcomes.get(outcome.value, 0)
            family.add_metric((*_labels(worker), outcome.value), count)
    return family


def _labels(worker: WorkerState) -> tuple[str, str]:
    return worker.pod, str(worker.dp_rank)


def _id(worker: WorkerState) -> WorkerId:
    return WorkerId(worker.pod, worker.dp_rank)

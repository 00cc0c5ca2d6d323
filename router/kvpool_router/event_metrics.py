"""What the event plane tells Prometheus as it goes on, beside what `WorkerMetrics` reads from its state."""

from prometheus_client import CollectorRegistry, Counter, Histogram

LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


class EventMetrics:
    """The plane's `Observer`. Counts over all workers: their own figures are `WorkerMetrics`'."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "kvpool_router_event_lag_seconds",
            "From the making of a KV event batch, by the engine's clock, to its being in the map; live batches only.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        skipped = Counter(
            "kvpool_router_skipped_events",
            "KV events that were not understood, by what they were: stored, removed, unknown (a newer kind), illegible,"
            " message (no batch at all).",
            ("what",),
            registry=registry,
        )
        self._skipped = {
            what: skipped.labels(what) for what in ("stored", "removed", "unknown", "illegible", "message")
        }

    def applied(self, lag_s: float) -> None:
        """A clock ahead of ours would make it negative, which a histogram's sum cannot take back."""
        self._lag.observe(max(0.0, lag_s))

    def skipped(self, what: str) -> None:
        self._skipped[what].inc()

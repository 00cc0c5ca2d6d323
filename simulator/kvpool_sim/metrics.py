"""`/metrics` in vLLM's names and labels, and how late the simulator's own steps were."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kvpool_sim.driver import Driver
from kvpool_sim.settings import Settings

_LABELS = ("engine", "model_name")
_LATENESS_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)

_GAUGES = {
    "vllm:num_requests_running": "Number of requests in model execution batches.",
    "vllm:num_requests_waiting": "Number of requests waiting to be processed.",
    "vllm:kv_cache_usage_perc": "KV-cache usage. 1 means 100 percent usage.",
}
_COUNTERS = {
    "vllm:prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "vllm:prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "vllm:prompt_tokens": "Number of prefill tokens processed.",
    "vllm:prompt_tokens_cached": "Number of cached prompt tokens (local + external).",
    "vllm:generation_tokens": "Number of generation tokens processed.",
    "vllm:num_preemptions": "Cumulative number of preemption from the engine.",
}

_OFFLOADING_COUNTERS = {
    "vllm:external_prefix_cache_queries": "External prefix cache queries, in terms of number of queried tokens.",
    "vllm:external_prefix_cache_hits": "External prefix cache hits, in terms of number of cached tokens.",
    "vllm:kv_offload_load_time": "Total time of KV loads from the offloading tier, in seconds.",
}
"""Told only by engines that offload."""


def _values(driver: Driver) -> dict[str, float]:
    core, totals = driver.core, driver.core.totals
    on_gpu = totals.cached_tokens - totals.loaded_tokens
    return {
        "vllm:num_requests_running": core.running,
        "vllm:num_requests_waiting": core.waiting,
        "vllm:kv_cache_usage_perc": core.pool.usage(),
        "vllm:prefix_cache_queries": totals.prompt_tokens,
        "vllm:prefix_cache_hits": on_gpu,
        "vllm:external_prefix_cache_queries": totals.prompt_tokens - on_gpu,
        "vllm:external_prefix_cache_hits": totals.loaded_tokens,
        "vllm:kv_offload_load_time": totals.load_s,
        "vllm:prompt_tokens": totals.prompt_tokens,
        "vllm:prompt_tokens_cached": totals.cached_tokens,
        "vllm:generation_tokens": totals.generation_tokens,
        "vllm:num_preemptions": totals.preemptions,
    }


class EngineCollector(Collector):
    """Reads the drivers when it is asked."""

    def __init__(self, settings: Settings, drivers: Sequence[Driver]) -> None:
        self._settings = settings
        self._drivers = drivers

    def collect(self) -> Iterable[Metric]:
        model = self._settings.served_names[0]
        values = [_values(driver) for driver in self._drivers]
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=_LABELS)
            for rank, of_rank in enumerate(values):
                gauge.add_metric((str(rank), model), of_rank[name])
            yield gauge
        offloading = _OFFLOADING_COUNTERS if self._settings.offloaded_blocks else {}
        for name, text in (_COUNTERS | offloading).items():
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for rank, of_rank in enumerate(values):
                counter.add_metric((str(rank), model), of_rank[name])
            yield counter
        yield self._successes(model)
        yield self._cache_config()
        yield self._lateness()

    def _successes(self, model: str) -> Metric:
        family = CounterMetricFamily(
            "vllm:request_success",
            "Count of successfully processed requests.",
            labels=("engine", "finished_reason", "model_name"),
        )
        for rank, driver in enumerate(self._drivers):
            for reason, count in driver.core.totals.finished.items():
                family.add_metric((str(rank), reason, model), count)
        return family

    def _cache_config(self) -> Metric:
        told = {"block_size": self._settings.block_size, "num_gpu_blocks": self._settings.blocks}
        labels = {"enable_prefix_caching": "True", **{name: str(value) for name, value in told.items()}}
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels=("engine", *labels)
        )
        for rank, _ in enumerate(self._drivers):
            family.add_metric((str(rank), *labels.values()), 1.0)
        return family

    def _lateness(self) -> Metric:
        late = sorted(value for driver in self._drivers for value in driver.latenesses_s)
        buckets = [(str(bound), sum(value <= bound for value in late)) for bound in _LATENESS_BOUNDS_S]
        family = HistogramMetricFamily(
            "kvpool_sim_step_lateness_seconds",
            "How late recent steps of the simulation ended: the machine, not the model.",
        )
        family.add_metric((), [*buckets, ("+Inf", len(late))], sum(late))
        return family


class Metrics:
    def __init__(self, settings: Settings, drivers: Sequence[Driver]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(settings, drivers))

    def text(self) -> bytes:
        return generate_latest(self._registry)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Of unsorted values; None where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

"""Every metric that operator, router and engines expose: asked of their collectors, with one series at least each."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvpool_api.conditions import Condition
from kvpool_api.status import InferencePoolStatus
from kvpool_api.wire import EventState, RouterState, SiblingState, Strategy, WindowFacts, WorkerState
from kvpool_operator.cluster.seam import POOL, Ref
from kvpool_operator.runtime.metrics import OperatorMetrics
from kvpool_operator.runtime.pulse import Pulse
from kvpool_router.event_metrics import EventMetrics
from kvpool_router.metrics import RequestMetrics, WorkerMetrics
from kvpool_sim.metrics import EngineCollector
from kvpool_sim.settings import parse
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@dataclass(frozen=True)
class Exposed:
    """One metric as its readers see it: counters with their `_total`."""

    name: str
    type: str
    help: str

    @staticmethod
    def of(metric: Metric) -> "Exposed":
        return Exposed(
            f"{metric.name}_total" if metric.type == "counter" else metric.name, metric.type, metric.documentation
        )

    def series(self) -> Iterator[str]:
        stem = self.name.removesuffix("_total") if self.type == "counter" else self.name
        return (stem + suffix for suffix in _SUFFIXES[self.type])


def of_router() -> list[Exposed]:
    registry = CollectorRegistry()
    EventMetrics(registry)
    registry.register(WorkerMetrics(_state, RequestMetrics(registry), lambda: None))
    return _exposed(registry.collect())


def of_operator() -> list[Exposed]:
    registry = CollectorRegistry()
    pulse = Pulse((), clock=lambda: 0.0, watch_limit_s=1.0, round_limit_s=1.0)
    metrics = OperatorMetrics(registry, pulse, clock=lambda: 0.0)
    ready = Condition(type="Ready", status="True", last_transition_time="", reason="Ready")
    metrics.reported(Ref(POOL, "default", "qwen"), InferencePoolStatus(conditions=[ready]))
    return _exposed(registry.collect())


def of_simulated_engine() -> list[Exposed]:
    settings, _ = parse(["model"], {})
    return _exposed(EngineCollector(settings, ()).collect())


def names_in(promql: str) -> set[str]:
    """Metric names of ours and of vLLM in an expression."""
    return set(re.findall(r"\b(?:kvpool_\w+|vllm:\w+)", promql))


def _exposed(metrics: Iterable[Metric]) -> list[Exposed]:
    return sorted((Exposed.of(metric) for metric in metrics), key=lambda each: each.name)


def _state() -> RouterState:
    worker = WorkerState(
        pod="engine-0",
        pod_uid="1",
        dp_rank=0,
        url="http://127.0.0.1",
        events=EventState.EXACT,
        events_reason="",
        synced=True,
        blocks=1,
        last_sequence=1,
        lag_ms=1.0,
        gaps=0,
        skipped_events=0,
        ready=True,
        draining=False,
        in_flight=0,
        queued_prefill_tokens=0,
        running=0,
        waiting=0,
        kv_usage_percent=0.0,
    )
    window = WindowFacts(
        requests=0,
        prompt_tokens=0,
        cached_tokens=0,
        predicted_tokens=0,
        errors=0,
        ttft_p50_ms=None,
        ttft_p90_ms=None,
    )
    return RouterState(
        router="router-0",
        ready=True,
        ready_reason="",
        tokenizer="",
        strategy=Strategy.CACHE_AWARE,
        queue=0,
        window=window,
        siblings=[SiblingState(router="router-1", heard=True, reason="Heard.", in_flight=0)],
        workers=[worker],
    )

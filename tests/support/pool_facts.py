"""Pools, workers and decisions as the API tells them, each with one line."""

from kvpool_api.conditions import Condition
from kvpool_api.pool import InferencePool
from kvpool_api.spec import Strategy
from kvpool_api.wire import Decision, EventState, RouterState, WindowFacts, WorkerState
from kvpool_cli.router_facts import RouterFacts

URL = "http://127.0.0.1:8000"


def pool(*conditions, generation=1, observed=1, replicas=1, routable=1):
    return InferencePool.model_validate(
        {
            "metadata": {"name": "qwen", "generation": generation},
            "spec": {"model": {"name": "m"}, "replicas": replicas},
            "status": {
                "observedGeneration": observed,
                "routableReplicas": routable,
                "conditions": [c.model_dump() for c in conditions],
            },
        }
    )


def condition(kind, status, reason="Because", message="of this."):
    return Condition(
        type=kind, status=status, reason=reason, message=message, last_transition_time="2026-01-01T00:00:00Z"
    )


READY = condition("Ready", "True", "AllReady", "")


def worker(pod="qwen-1-0", rank=0, **told):
    defaults = {
        "pod": pod,
        "pod_uid": "u",
        "dp_rank": rank,
        "url": "http://127.1.1.1:8000",
        "events": EventState.EXACT,
        "events_reason": "",
        "synced": True,
        "blocks": 1234,
        "last_sequence": 1,
        "lag_ms": 1.0,
        "gaps": 0,
        "skipped_events": 0,
        "ready": True,
        "draining": False,
        "in_flight": 0,
        "queued_prefill_tokens": 0,
        "running": 3,
        "waiting": 2,
        "kv_usage_percent": 1.0,
    }
    return WorkerState(**(defaults | told))


def decision(pod="qwen-1-0", cached=50, predicted=48, ttft=20.0, prompt=100):
    return Decision(
        request_id="r",
        time="2026-01-01T00:00:00Z",
        path="/v1/completions",
        strategy=Strategy.CACHE_AWARE,
        prompt_tokens=prompt,
        pod=pod,
        dp_rank=0,
        reason="",
        candidates=[],
        predicted_cached_tokens=predicted,
        cached_tokens=cached,
        ttft_ms=ttft,
        attempts=1,
        outcome="ok",
    )


def facts(*workers, decisions=(), window=(10, 1000, 600, 590), errors=0):
    requests, prompt, cached, predicted = window
    return RouterFacts(
        RouterState(
            router="r",
            ready=True,
            ready_reason="",
            tokenizer="",
            strategy=Strategy.CACHE_AWARE,
            queue=1,
            window=WindowFacts(
                requests=requests,
                prompt_tokens=prompt,
                cached_tokens=cached,
                predicted_tokens=predicted,
                errors=errors,
                ttft_p50_ms=12.0,
                ttft_p90_ms=34.0,
            ),
            workers=list(workers),
        ),
        tuple(decisions),
    )

"""How many Pods an eviction may take at once: engines and routers each on their own."""

from kvpool_api.labels import engine_selector, router_name, router_selector
from kvpool_api.pool import InferencePool

from kvpool_operator.build.parts import Json, metadata


def engine_budget(pool: InferencePool) -> Json:
    at_once = max(1, pool.spec.rollout.max_unavailable)
    return _budget(pool, pool.metadata.name, engine_selector(pool.metadata.name), at_once)


def router_budget(pool: InferencePool) -> Json:
    return _budget(pool, router_name(pool.metadata.name), router_selector(pool.metadata.name), 1)


def _budget(pool: InferencePool, name: str, selector: dict[str, str], at_once: int) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(pool, name),
        "spec": {"maxUnavailable": at_once, "selector": {"matchLabels": {**selector}}},
    }

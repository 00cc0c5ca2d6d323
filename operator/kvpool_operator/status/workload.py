"""Whether enough engines serve, and what is in the way if not."""

from collections.abc import Sequence

from kvpool_api.conditions import ConditionType, Reason
from kvpool_api.manifest import as_map, as_text, at

from kvpool_operator.manifests import container_statuses
from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import Done, because
from kvpool_operator.plan.broken import unreplaced
from kvpool_operator.status.causes import quota_refusal, why_unwell


def workload_ready(seen: Observed, done: Sequence[Done]) -> tuple[bool, Reason]:
    """Routable engines >= desired - maxUnavailable, and one at least where any are wanted.

    A raised `replicas` alone does not take it away: what served before serves still.
    """
    desired = seen.pool.spec.replicas
    fewest = max(desired - seen.pool.spec.rollout.max_unavailable, min(desired, 1))
    available = seen.available
    told = f"{available} of {desired} engines serve"
    if available >= fewest or (available and _was_ready(seen) and not _lost_some(seen)):
        return True, because("EnginesServe" if desired else "ScaledToZero", told)
    trouble = first_cause(seen, done)
    if trouble is not None:
        return False, because(trouble.code, f"{told}; {trouble.message}")
    return False, because("EnginesStarting", f"{told}; {_starting(seen)}")


def first_cause(seen: Observed, done: Sequence[Done]) -> Reason | None:
    """The first thing that keeps an engine from serving; None while all start as they should."""
    unwell = [engine for engine in seen.engines if engine.kept and not engine.available]
    found = (why_unwell(engine) for engine in (*unwell, *unreplaced(seen)))
    return next((why for why in found if why is not None), None) or quota_refusal(done)


def _was_ready(seen: Observed) -> bool:
    kind = ConditionType.WORKLOAD_READY.value
    return any(each.type == kind and each.status == "True" for each in seen.pool.status.conditions)


def _lost_some(seen: Observed) -> bool:
    """Fewer serve than before: then a raised `replicas` is not what is missing."""
    return seen.available < min(seen.pool.status.routable_replicas, seen.pool.spec.replicas)


def _starting(seen: Observed) -> str:
    loading = [engine for engine in seen.engines if engine.kept and engine.containers_ready_since is None]
    unknown = [e.name for e in seen.engines if e.kept and e.containers_ready_since is not None and not e.routable]
    if loading:
        return _stage(loading[0], seen.pool.spec.engine.startup_timeout_seconds)
    return f"routers have yet to learn the cache of {unknown[0]}" if unknown else "none exists yet"


def _stage(engine: Engine, limit_s: int) -> str:
    """How far the engine is; by times that stand still, so that waiting alone changes no status."""
    states = [as_map(status.get("state")) for status in container_statuses(engine.pod)]
    started = next((at(state, ("running", "startedAt")) for state in states if "running" in state), None)
    if started is not None:
        return f"{engine.name} has been loading since {as_text(started)} and has {limit_s} s"
    if states:
        return f"{engine.name} waits for its image and volumes"
    return f"{engine.name} waits for a node"

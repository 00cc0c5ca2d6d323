"""Whether enough engines serve, what that means for requests, and what is in the way if not."""

from collections.abc import Sequence

from kvpool_api.conditions import ConditionType, Reason
from kvpool_api.manifest import as_map, as_text, at

from kvpool_operator.manifests import container_statuses
from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import Done, because
from kvpool_operator.plan.broken import unreplaced
from kvpool_operator.status.causes import deepest, why_unwell
from kvpool_operator.status.refused import refusal_of_engines

ENGINES_STARTING = "EnginesStarting"
PAUSED = "Paused"
_SURGE_MEND = (
    "or, as it is the one more that a rollout makes first, roll in place: spec.rollout {maxSurge: 0, maxUnavailable: 1}"
)


def workload_ready(seen: Observed, trouble: Reason | None) -> tuple[bool, Reason]:
    """Routable engines >= desired - maxUnavailable, and one at least where any are wanted.

    `trouble` is what `first_cause` has found.

    A raised `replicas` alone does not take it away: what served before serves still.
    """
    desired, available = seen.pool.spec.replicas, seen.available
    if not desired:
        return True, because("ScaledToZero", _nothing_wanted(seen))
    if available >= desired:
        return True, because("EnginesServe", _routable(seen))
    rest = trouble.message if trouble else _starting(seen)
    if available >= _fewest(seen):
        return True, because("EnginesServe", f"{_routable(seen)}, which is enough ({_needed(seen)}); {rest}")
    if available and _was_ready(seen) and not _lost_some(seen):
        return True, because("EnginesServe", f"{_routable(seen)}, as many as before it was scaled up; {rest}")
    code = trouble.code if trouble else PAUSED if _missing_by_pause(seen) else ENGINES_STARTING
    return False, because(code, f"{_routable(seen)} ({_needed(seen)}); {_traffic(seen)}; {rest}")


def first_cause(seen: Observed, done: Sequence[Done], now: float) -> Reason | None:
    """What keeps an engine from serving, the deepest cause there is; None while all start as they should."""
    unwell = [engine for engine in seen.engines if engine.kept and not engine.available]
    found = (why_unwell(engine, now) for engine in (*unwell, *(each.engine for each in unreplaced(seen))))
    return _of_surge(seen, deepest([why for why in found if why is not None])) or refusal_of_engines(done)


def _of_surge(seen: Observed, why: Reason | None) -> Reason | None:
    """A rollout that makes its new engine first finds no room on a cluster that is full with the old ones."""
    if why is None or why.code != "Unschedulable" or len(seen.kept) <= seen.pool.spec.replicas:
        return why
    return because(why.code, f"{why.message}; {_SURGE_MEND}")


def _nothing_wanted(seen: Observed) -> str:
    leaving = sum(engine.active for engine in seen.engines)
    ends = f" ({leaving} still to end)" if leaving else ""
    return f"spec.replicas is 0, so there is no engine{ends} and requests are answered with 503; raise it to serve"


def _routable(seen: Observed) -> str:
    desired, available = seen.pool.spec.replicas, seen.available
    if available > desired:
        return f"{available} engines are routable, {desired} wanted"
    return f"{available} of {desired} engines are routable"


def _fewest(seen: Observed) -> int:
    spec = seen.pool.spec
    return max(spec.replicas - spec.rollout.max_unavailable, 1)


def _needed(seen: Observed) -> str:
    desired, spare, fewest = seen.pool.spec.replicas, seen.pool.spec.rollout.max_unavailable, _fewest(seen)
    are = "1 is needed" if fewest == 1 else f"{fewest} are needed"
    if not spare or fewest > desired - spare:
        return are
    return f"{are}: desired {desired} less maxUnavailable {spare}"


def _traffic(seen: Observed) -> str:
    """What it means for whoever sends requests."""
    if not seen.available:
        return "no request can be served"
    if not any(router.ready and not router.terminating for router in seen.routers):
        return "no router is ready to send them requests"
    return "traffic is served by this one" if seen.available == 1 else f"traffic is served by these {seen.available}"


def _was_ready(seen: Observed) -> bool:
    kind = ConditionType.WORKLOAD_READY.value
    return any(each.type == kind and each.status == "True" for each in seen.pool.status.conditions)


def _lost_some(seen: Observed) -> bool:
    """Fewer serve than before: then a raised `replicas` is not what is missing."""
    return seen.available < min(seen.pool.status.routable_replicas, seen.pool.spec.replicas)


def _missing_by_pause(seen: Observed) -> bool:
    return seen.pool.spec.paused and len(seen.kept) < seen.pool.spec.replicas


def _starting(seen: Observed) -> str:
    """Why engines without any trouble do not serve yet."""
    if _missing_by_pause(seen):
        return f"{len(seen.kept)} exist, and while spec.paused is true no other is made"
    loading = [engine for engine in seen.engines if engine.kept and engine.containers_ready_since is None]
    unknown = [e.name for e in seen.engines if e.kept and e.containers_ready_since is not None and not e.routable]
    if loading:
        return _stage(loading[0], seen.pool.spec.engine.startup_timeout_seconds)
    if unknown:
        return f"routers have yet to learn the cache of {unknown[0]}"
    return f"{len(seen.kept)} exist so far" if seen.kept else "none exists yet"


def _stage(engine: Engine, limit_s: int) -> str:
    """How far the engine is; by times that stand still, so that waiting alone changes no status."""
    states = [as_map(status.get("state")) for status in container_statuses(engine.pod)]
    started = next((at(state, ("running", "startedAt")) for state in states if "running" in state), None)
    if started is not None and engine.routable:
        return f"{engine.name} has served and now fails its readiness probe"
    if started is not None:
        return f"{engine.name} has been loading since {as_text(started)} and has {limit_s} s"
    if states:
        return f"{engine.name} waits for its image and volumes"
    return f"{engine.name} waits for a node"

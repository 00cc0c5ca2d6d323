"""The eight conditions: each from the observation alone, with the first cause as its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Condition, ConditionStatus, ConditionType, Reason
from kvpool_api.labels import ROUTER_CONTAINER
from kvpool_api.wire import EventState, WorkerState

from kvpool_operator.manifests import rfc3339
from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import Done, because, subject
from kvpool_operator.status.causes import cause


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition before it has a time."""

    status: ConditionStatus
    reason: Reason


def _true(code: str, message: str = "") -> Verdict:
    return Verdict("True", because(code, message))


def _false(reason: Reason) -> Verdict:
    return Verdict("False", reason)


def verdicts(seen: Observed, done: Sequence[Done]) -> Mapping[ConditionType, Verdict]:
    """All conditions."""
    found = {
        ConditionType.ACCEPTED: _accepted(done),
        ConditionType.WORKLOAD_READY: _workload_ready(seen),
        ConditionType.ROUTER_READY: _router_ready(seen),
        ConditionType.KV_EVENTS_FLOWING: _events_flowing(seen),
        ConditionType.SCALING_ACTIVE: Verdict("False", because("Manual", "spec.replicas is set by hand")),
        ConditionType.PROGRESSING: _progressing(seen, done),
    }
    found[ConditionType.READY] = _ready(found)
    found[ConditionType.DEGRADED] = _degraded(seen, found)
    return found


def dated(
    found: Mapping[ConditionType, Verdict], before: Sequence[Condition], generation: int, now: float
) -> list[Condition]:
    """Conditions with their times: a time moves only when the status flips."""
    known = {condition.type: condition for condition in before}
    return [_dated(kind, found[kind], known.get(kind.value), generation, now) for kind in ConditionType]


def _dated(kind: ConditionType, verdict: Verdict, known: Condition | None, generation: int, now: float) -> Condition:
    flipped = known is None or known.status != verdict.status
    return Condition(
        type=kind.value,
        status=verdict.status,
        observed_generation=generation,
        last_transition_time=rfc3339(now) if known is None or flipped else known.last_transition_time,
        reason=verdict.reason.code,
        message=verdict.reason.message,
    )


def _accepted(done: Sequence[Done]) -> Verdict:
    refused = next((each for each in done if each.refused is not None), None)
    if refused is not None:
        return _false(because("Refused", f"{subject(refused.action)}: {refused.refused}"))
    return _true("Accepted")


def _workload_ready(seen: Observed) -> Verdict:
    desired = seen.pool.spec.replicas
    fewest = max(desired - seen.pool.spec.rollout.max_unavailable, min(desired, 1))
    available = seen.available
    told = f"{available} of {desired} engines serve"
    if available >= fewest or (available and _was_ready(seen) and not _lost_some(seen)):
        return _true("EnginesServe" if desired else "ScaledToZero", told)
    causes = [found for engine in seen.engines if engine.kept and (found := cause(engine.pod))]
    if causes:
        return _false(because(causes[0].code, f"{told}; {causes[0].message}"))
    return _false(because("EnginesStarting", f"{told}; {_starting(seen)}"))


def _was_ready(seen: Observed) -> bool:
    kind = ConditionType.WORKLOAD_READY.value
    return any(each.type == kind and each.status == "True" for each in seen.pool.status.conditions)


def _lost_some(seen: Observed) -> bool:
    """Fewer serve than before: then a raised `replicas` is not what is missing."""
    return seen.available < min(seen.pool.status.routable_replicas, seen.pool.spec.replicas)


def _starting(seen: Observed) -> str:
    waiting = [engine.name for engine in seen.engines if engine.kept and engine.containers_ready_since is None]
    unknown = [e.name for e in seen.engines if e.kept and e.containers_ready_since is not None and not e.routable]
    if waiting:
        return f"waiting for {', '.join(waiting[:3])} to load"
    return f"waiting for routers to learn the cache of {', '.join(unknown[:3])}" if unknown else "none exists yet"


def _router_ready(seen: Observed) -> Verdict:
    ready = sum(router.ready and not router.terminating for router in seen.routers)
    told = f"{ready} of {seen.pool.spec.router.replicas} routers are ready"
    if ready:
        return _true("RoutersReady", told)
    why = next((found for router in seen.routers if (found := cause(router.pod, ROUTER_CONTAINER))), None)
    if why is not None:
        return _false(because(why.code, f"{told}; {why.message}"))
    states = [router.state.ready_reason for router in seen.routers if router.state is not None]
    silent = [router.silent for router in seen.routers if router.silent]
    return _false(because("RoutersStarting", "; ".join([told, *states[:1], *silent[:1]])))


def _events_flowing(seen: Observed) -> Verdict:
    workers = [worker for router in seen.routers if router.state for worker in router.state.workers if worker.ready]
    if not workers:
        return Verdict("Unknown", because("NoWorkers", "no router knows a ready engine yet"))
    doubtful = [worker for worker in workers if worker.events is not EventState.EXACT]
    if not doubtful:
        return _true("Exact", f"the map of {len({(w.pod, w.dp_rank) for w in workers})} workers is exact")
    return _false(_doubt(doubtful))


def _doubt(doubtful: Sequence[WorkerState]) -> Reason:
    first = min(doubtful, key=lambda worker: (worker.pod, worker.dp_rank))
    more = f" ({len(doubtful) - 1} more)" if len(doubtful) > 1 else ""
    return because(first.events.value.capitalize(), f"{first.pod} rank {first.dp_rank}: {first.events_reason}{more}")


def _progressing(seen: Observed, done: Sequence[Done]) -> Verdict:
    moving = [each.action for each in done if each.refused is None]
    starting = [engine.name for engine in seen.engines if engine.active and not engine.available]
    if not moving and not starting and len(seen.kept) == seen.pool.spec.replicas:
        return _false(because("AsAsked", "the pool is as its spec asks"))
    if moving:
        first = moving[0]
        return _true(first.reason.code, f"{subject(first)}: {first.reason.message}")
    return _true("EnginesMoving", f"{_told(starting)} start, drain or wait")


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _ready(found: Mapping[ConditionType, Verdict]) -> Verdict:
    for kind in (ConditionType.ACCEPTED, ConditionType.ROUTER_READY, ConditionType.WORKLOAD_READY):
        if found[kind].status != "True":
            return _false(found[kind].reason)
    return _true("Ready", found[ConditionType.WORKLOAD_READY].reason.message)


def _degraded(seen: Observed, found: Mapping[ConditionType, Verdict]) -> Verdict:
    """Serving, but less or less well than asked."""
    for kind in (ConditionType.READY, ConditionType.KV_EVENTS_FLOWING):
        if found[kind].status == "False":
            return Verdict("True", found[kind].reason)
    fewer = seen.pool.spec.replicas - seen.available
    causes = [told for engine in seen.engines if _unwell(engine) and (told := cause(engine.pod))]
    if fewer > 0 and causes:
        return Verdict("True", causes[0])
    return _false(because("AsAsked", "nothing is amiss"))


def _unwell(engine: Engine) -> bool:
    return engine.kept and not engine.available

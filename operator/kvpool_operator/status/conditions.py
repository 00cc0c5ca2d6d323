"""The conditions: each from the observation alone, with the first cause as its reason."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Condition, ConditionStatus, ConditionType, Reason
from kvpool_api.labels import ROUTER_CONTAINER, router_name
from kvpool_api.manifest import at
from kvpool_api.wire import ASKS_ENGINES, ROUTER_ADMIN_PORT, EventState, TokenParity, WorkerState

from kvpool_operator.build.router_config import router_config
from kvpool_operator.manifests import condition, label, rfc3339, seconds
from kvpool_operator.observed import Observed, Router
from kvpool_operator.plan.actions import Done, because, briefly, subject
from kvpool_operator.plan.strangers import may_not_begin, name_taken
from kvpool_operator.status.causes import cause
from kvpool_operator.status.refused import is_over_quota, pods_refused, refusal
from kvpool_operator.status.workload import ENGINES_STARTING, PAUSED, first_cause, workload_ready

ROUTERS_STARTING = "RoutersStarting"
ROUTERS_SILENT = "RoutersSilent"
ROUTERS_APART = "RoutersApart"
ENGINES_SILENT = "EnginesSilent"
TOKENS_DIFFER = "TokensDiffer"
_LIVENESS = "the kubelet restarts what fails its liveness probe, after about a minute"
_MUTE_MEANS = "requests are served, but nobody sees what it knows of engines, and drains wait for their whole timeout"
_MUTE_MEND = "see its log, and what stands between it and the operator (NetworkPolicies, a service mesh)"
_APART_MEANS = "requests are served, but each is placed without what the other has sent where"
_APART_MEND = (
    f"let routers reach each other's admin port {ROUTER_ADMIN_PORT} (NetworkPolicies of others, a service mesh);"
    " each one's /state says how it fails"
)
_MOMENT_S = 10.0
"""A router that has been ready for so long has had the time to be heard: siblings try again after 2 s at most."""
_TEMPLATE_HASH = "pod-template-hash"
_DIFFERENCE_MEANS = "their caches are not told apart by the router's own tokens"
_HELD_BACK = "while spec.paused is true nothing is made, changed or deleted; set it to false to go on"
_PASSING_WORDS = re.compile(r" ?\(Request ID: [^)]*\)")
"""Others with each try of the hub, and no help."""
_STARTING = frozenset({ENGINES_STARTING, ROUTERS_STARTING, PAUSED})
"""What keeps a pool from a first Ready without being any trouble."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition before it has a time."""

    status: ConditionStatus
    reason: Reason


def _true(code: str, message: str = "") -> Verdict:
    return Verdict("True", because(code, message))


def _false(reason: Reason) -> Verdict:
    return Verdict("False", reason)


def verdicts(seen: Observed, done: Sequence[Done], now: float) -> Mapping[ConditionType, Verdict]:
    """All conditions."""
    trouble = first_cause(seen, done, now)
    serves, why = workload_ready(seen, trouble)
    found = {
        ConditionType.ACCEPTED: _accepted(seen, done),
        ConditionType.WORKLOAD_READY: Verdict("True" if serves else "False", why),
        ConditionType.ROUTER_READY: _router_ready(seen, now),
        ConditionType.KV_EVENTS_FLOWING: _events_flowing(seen),
        ConditionType.SCALING_ACTIVE: _false(because("Manual", "spec.replicas is set by hand")),
        ConditionType.PAUSED: _paused(seen),
    }
    found[ConditionType.PROGRESSING] = _progressing(seen, done, found[ConditionType.ROUTER_READY])
    found[ConditionType.READY] = _ready(seen, found)
    found[ConditionType.DEGRADED] = _degraded(seen, trouble, found, now)
    return found


def verdicts_unread(words: str) -> Mapping[ConditionType, Verdict]:
    """All conditions of a pool whose spec this release does not understand."""
    why = because("NotUnderstood", words)
    unknown = Verdict("Unknown", because("NotUnderstood", "the pool's spec is not understood"))
    no = dict.fromkeys((ConditionType.ACCEPTED, ConditionType.READY), _false(why))
    return {**dict.fromkeys(ConditionType, unknown), **no, ConditionType.DEGRADED: Verdict("True", why)}


def dated(
    found: Mapping[ConditionType, Verdict], before: Sequence[Condition], generation: int, now: float
) -> list[Condition]:
    """Conditions with their times: a time moves only when the status flips."""
    known = {condition.type: condition for condition in before}
    return [_dated(kind, found[kind], known.get(kind.value), generation, now) for kind in ConditionType]


def _dated(kind: ConditionType, verdict: Verdict, known: Condition | None, generation: int, now: float) -> Condition:
    stays = known is not None and known.status == verdict.status
    return Condition(
        type=kind.value,
        status=verdict.status,
        observed_generation=generation,
        last_transition_time=known.last_transition_time if known and stays else rfc3339(now),
        reason=verdict.reason.code,
        message=verdict.reason.message,
    )


def _accepted(seen: Observed, done: Sequence[Done]) -> Verdict:
    if (taken := name_taken(seen)) is not None:
        return _false(taken)
    refused = next((each for each in done if each.refused is not None and not is_over_quota(each)), None)
    if refused is not None:
        return _false(refusal(refused))
    return _true("Accepted", "the cluster takes all that the spec asks for")


def _router_ready(seen: Observed, now: float) -> Verdict:
    ready = _routers_ready(seen)
    told = f"{ready} of {seen.pool.spec.router.replicas} routers are ready"
    mute, apart = _mute(seen), _apart(seen, now)
    if ready:
        words = "; ".join([told, *mute[:1], *apart[:1], *_tokenizing(seen)])
        return _true(ROUTERS_SILENT if mute else ROUTERS_APART if apart else "RoutersReady", words)
    why = next(_troubled(seen), None)
    if why is not None:
        return _false(because(why.code, f"{told}; {why.message}"))
    if mute:
        return _false(because(ROUTERS_SILENT, f"{told}; {mute[0]}; {_LIVENESS}"))
    deployment = seen.children.get(("Deployment", router_name(seen.pool.metadata.name)))
    if deployment is None and seen.pool.spec.paused:
        return _false(because(PAUSED, f"{told}; {_HELD_BACK}"))
    kept_away = pods_refused(deployment or {})
    if kept_away is not None:
        return _false(because(kept_away.code, f"{told}; {kept_away.message}"))
    states = [router.state.ready_reason.rstrip(".") for router in seen.routers if router.state is not None]
    silent = [f"{router.name}: {router.silent}" for router in seen.routers if router.silent]
    return _false(because(ROUTERS_STARTING, "; ".join([told, *states[:1], *silent[:1]])))


def _routers_ready(seen: Observed) -> int:
    return sum(router.ready and not router.terminating for router in seen.routers)


def _mute(seen: Observed) -> Sequence[str]:
    """Routers whose process has been ready and does not tell its state now: one that starts is no such."""
    return [
        f"{router.name} does not tell its state: {router.silent}"
        for router in seen.routers
        if router.running and router.silent and router.has_been_ready and not router.terminating
    ]


def _apart(seen: Observed, now: float) -> Sequence[str]:
    """Routers that serve and do not hear a sibling that serves too, though the operator hears both.

    Not while routers are rolled: those of two releases may not understand each other.
    """
    told = {each.name: each.state for each in seen.routers if each.state is not None and _is_settled(each, now)}
    rolls = len({label(each.pod, _TEMPLATE_HASH) for each in seen.routers}) > 1
    if rolls or any(each.terminating for each in seen.routers):
        return ()
    pairs = ((name, each) for name, state in told.items() for each in state.siblings)
    return sorted(
        f"{name} does not hear {each.router}" for name, each in pairs if not each.heard and each.router in told
    )


def _is_settled(router: Router, now: float) -> bool:
    since = seconds(condition(router.pod, "Ready").get("lastTransitionTime"))
    return router.ready and now - (since or 0.0) >= _MOMENT_S


def _tokenizing(seen: Observed) -> Iterator[str]:
    """That a router asks engines for what it was told to read itself: slower, and nobody would notice otherwise."""
    wanted = router_config(seen.pool).tokenizer
    for router in seen.routers:
        told = router.state.tokenizer if router.state is not None else ""
        if told.startswith(ASKS_ENGINES) and (wanted.path or wanted.hub_name):
            yield f"{router.name} {_PASSING_WORDS.sub('', told)}"
            return


def _troubled(seen: Observed) -> Iterator[Reason]:
    """What keeps router Pods from coming up. Others may serve: then it is a rollout of routers that is stuck.

    Pods that have ended (evicted ones stay to be looked at) are no trouble: their Deployment has made others.
    """
    for router in seen.routers:
        ended = at(router.pod, ("status", "phase")) in ("Failed", "Succeeded")
        if not (router.ready or router.terminating or ended) and (found := cause(router.pod, ROUTER_CONTAINER)):
            yield found


def _events_flowing(seen: Observed) -> Verdict:
    """Of the engines that serve: one that has just come is still being learned, which is no fault."""
    serving = {engine.name for engine in seen.engines if engine.available}
    states = [router.state for router in seen.routers if router.state is not None]
    workers = [worker for state in states for worker in state.workers if worker.pod in serving and worker.ready]
    if not workers and (mute := _mute(seen)):
        return Verdict("Unknown", because(ROUTERS_SILENT, mute[0]))
    if not workers:
        return Verdict("Unknown", because("NoWorkers", "no router knows an engine that serves yet"))
    doubtful = [worker for worker in workers if worker.events is not EventState.EXACT]
    if not doubtful:
        return _true("Exact", f"the map of {len({(w.pod, w.dp_rank) for w in workers})} workers is exact")
    return _false(_doubt(doubtful))


def _doubt(doubtful: Sequence[WorkerState]) -> Reason:
    first = min(doubtful, key=lambda worker: (worker.pod, worker.dp_rank))
    more = f" ({len(doubtful) - 1} more)" if len(doubtful) > 1 else ""
    return because(
        first.events.value.capitalize(), f"{first.pod} rank {first.dp_rank}: {first.events_reason.rstrip('.')}{more}"
    )


def _paused(seen: Observed) -> Verdict:
    if seen.pool.spec.paused:
        return _true(PAUSED, _HELD_BACK)
    return _false(because("NotPaused", "the operator keeps the pool as its spec asks"))


def _progressing(seen: Observed, done: Sequence[Done], router_ready: Verdict) -> Verdict:
    if seen.pool.spec.paused:
        return _false(because(PAUSED, "; ".join([_HELD_BACK, *_under_way(seen)])))
    moving = [each.action for each in done if each.refused is None and not each.overtaken]
    under_way = "; ".join(_under_way(seen))
    if may_not_begin(seen) and (taken := name_taken(seen)) is not None:
        return _false(taken)
    if moving:
        first = moving[0]
        return _true(first.reason.code, f"{subject(first)}: {first.reason.message}")
    if under_way:
        return _true("EnginesMoving", under_way)
    if len(seen.kept) != seen.pool.spec.replicas:
        return _true("EnginesMissing", f"{len(seen.kept)} of {seen.pool.spec.replicas} engines exist")
    if router_ready.status == "False":
        starts = router_ready.reason.code == ROUTERS_STARTING
        return Verdict("True" if starts else "False", router_ready.reason)
    if _routers_ready(seen) < seen.pool.spec.router.replicas:
        return _true(ROUTERS_STARTING, router_ready.reason.message)
    return _false(because("AsAsked", "the pool is as its spec asks"))


def _under_way(seen: Observed) -> Iterator[str]:
    waiting = [engine for engine in seen.engines if engine.kept and not engine.available]
    for what, names in (
        ("not serving yet", [engine.name for engine in waiting if not engine.routable]),
        ("not serving any more, to come back", [engine.name for engine in waiting if engine.routable]),
        ("draining", [e.name for e in seen.engines if e.active and e.draining_since is not None]),
    ):
        if names:
            yield f"{what}: {briefly(names)}"


def _ready(seen: Observed, found: Mapping[ConditionType, Verdict]) -> Verdict:
    """Not ready for the deepest cause: routers wait for engines, so that they wait is only a symptom.

    That something starts says little, so any other reason goes before it: a refusal, then what is wrong with engines,
    then what is wrong with routers.
    """
    kinds = (ConditionType.ACCEPTED, ConditionType.WORKLOAD_READY, ConditionType.ROUTER_READY)
    unmet = [found[kind].reason for kind in kinds if found[kind].status != "True"]
    if unmet:
        return _false(next((reason for reason in unmet if reason.code not in _STARTING), unmet[0]))
    serves = found[ConditionType.WORKLOAD_READY].reason
    if seen.pool.spec.paused:
        return _true(PAUSED, f"{serves.message}; {_HELD_BACK}")
    return _true("Ready" if seen.pool.spec.replicas else serves.code, serves.message)


def _degraded(seen: Observed, trouble: Reason | None, found: Mapping[ConditionType, Verdict], now: float) -> Verdict:
    """Less, or less well, than asked. A pool that starts for the first time without trouble is not."""
    ready = found[ConditionType.READY]
    starts = ready.reason.code in _STARTING
    if ready.status == "False" and (not starts or _has_been_ready(seen)):
        return Verdict("True", ready.reason)
    if trouble is not None:
        return Verdict("True", trouble)
    if (silence := _silent_engines(seen)) is not None:
        return Verdict("True", silence)
    if (mute := _still_mute(seen)) is not None:
        return Verdict("True", mute)
    if (differing := _tokens_differ(seen)) is not None:
        return Verdict("True", differing)
    if found[ConditionType.KV_EVENTS_FLOWING].status == "False":
        return Verdict("True", found[ConditionType.KV_EVENTS_FLOWING].reason)
    if (stuck := next(_troubled(seen), None)) is not None:
        return Verdict("True", stuck)
    if (apart := _still_apart(seen, now)) is not None:
        return Verdict("True", apart)
    return _false(because("AsAsked", "nothing is amiss"))


def _silent_engines(seen: Observed) -> Reason | None:
    """Routable engines that a router has found not to answer: known long before their probes fail."""
    serving = {engine.name for engine in seen.engines if engine.available}
    workers = [each for router in seen.routers if router.state is not None for each in router.state.workers]
    silent = sorted({each.pod for each in workers if each.circuit_open and each.pod in serving})
    if not silent:
        return None
    return because(ENGINES_SILENT, f"routers get no answer from {briefly(silent)} and prefer others; {_LIVENESS}")


def _tokens_differ(seen: Observed) -> Reason | None:
    """Engines that read prompts otherwise than a router: it finds nothing of theirs in its map, and nothing fails."""
    serving = {engine.name for engine in seen.engines if engine.available}
    workers = [each for router in seen.routers if router.state is not None for each in router.state.workers]
    differing = [each for each in workers if each.tokens is TokenParity.DIFFERS and each.pod in serving]
    if not differing:
        return None
    first = min(differing, key=lambda each: (each.pod, each.dp_rank))
    pods = briefly(sorted({each.pod for each in differing}))
    return because(TOKENS_DIFFER, f"{pods}: {first.tokens_reason.rstrip('.')}; {_DIFFERENCE_MEANS}")


def _still_mute(seen: Observed) -> Reason | None:
    """Routers that serve and do not tell their state, the second time at least: one answer may be late."""
    mute = _mute(seen)
    if not mute or not _was_told(seen, ROUTERS_SILENT):
        return None
    mend = next((router.mend for router in seen.routers if router.mend), _MUTE_MEND)
    return because(ROUTERS_SILENT, f"{mute[0]}; {_MUTE_MEANS}; {mend}")


def _still_apart(seen: Observed, now: float) -> Reason | None:
    """The second time at least: a stream that breaks off is begun anew a moment later."""
    apart = _apart(seen, now)
    if not apart or not _was_told(seen, ROUTERS_APART):
        return None
    return because(ROUTERS_APART, f"{briefly(apart)}; {_APART_MEANS}; {_APART_MEND}")


def _was_told(seen: Observed, code: str) -> bool:
    """By the round before, of the routers."""
    conditions = seen.pool.status.conditions
    return any(each.type == ConditionType.ROUTER_READY and each.reason == code for each in conditions)


def _has_been_ready(seen: Observed) -> bool:
    """It is Ready or was once, read off the conditions that the round before has written.

    A condition's time moves when it flips: one of Ready that is later than the first visit tells of a flip. Being
    Degraded tells nothing: a pool may be that from its first moment.
    """
    times = [each.last_transition_time for each in seen.pool.status.conditions]
    ready = next((each for each in seen.pool.status.conditions if each.type == ConditionType.READY), None)
    return ready is not None and (ready.status == "True" or ready.last_transition_time > min(times))

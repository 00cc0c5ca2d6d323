"""What people are shown of a pool: pure functions from the pool's status and its router's facts to lines of text."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Condition, ConditionType
from kvpool_api.pool import InferencePool
from kvpool_api.wire import Decision, WorkerState

from kvpool_cli.engine_pods import READY, EnginePod
from kvpool_cli.router_facts import RouterFacts

UNKNOWN = "-"
ROUTERS_STARTING = "RoutersStarting"
"""The operator's reason for a router that is not ready, without a cause that it knows."""


@dataclass(frozen=True, slots=True)
class Served:
    """Answers of one worker or of a pool: shares of prompt tokens in percent, TTFT in milliseconds."""

    hit_percent: float | None = None
    predicted_percent: float | None = None
    ttft_p50_ms: float | None = None
    ttft_p90_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker; None means unknown. `served` is over its share of the router's last decisions."""

    name: str
    state: str
    events: str
    blocks: int | None
    running: int | None
    waiting: int | None
    served: Served


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool at one moment. `served`, `requests` and `errors` (the pool's fault) are over the last five minutes."""

    name: str
    url: str
    ready: bool
    standing: str
    """In a few words what clients get, such as `serving with 2 of 4 engines, 2 away`."""
    why: str
    causes: tuple[str, ...]
    """What is wrong with the router's answers and with single engines, beyond what `why` says."""
    conditions: tuple[Condition, ...]
    workers: tuple[WorkerLine, ...]
    served: Served
    queue: int | None
    requests: int = 0
    errors: int = 0
    tokenizer: str = ""
    """What the routers turn prompts into token ids with; empty where none answers."""


def view(pool: InferencePool, facts: RouterFacts, pods: Mapping[str, EnginePod], url: str) -> PoolView:
    """`pods` names the engine Pods that exist, each with its state; a router may not know all of them yet.

    `url` is the door on this machine: the status names it as other Pods of a cluster would.
    """
    state = facts.state
    workers = _worker_lines(facts, pods)
    reason = why(pool)
    ready = _is(pool, ConditionType.READY)
    causes = sorted({pod.cause for pod in pods.values() if pod.cause and pod.cause not in reason})
    if ready and facts.trouble is not None:
        causes.insert(0, facts.trouble)
    return PoolView(
        name=pool.metadata.name,
        url=url or pool.status.router.url or "",
        ready=ready,
        standing=standing(pool, serving(facts, workers)),
        why=reason,
        causes=tuple(causes),
        conditions=tuple(pool.status.conditions),
        workers=tuple(line for _, line in sorted(workers.items())),
        served=_served_by_pool(facts),
        queue=None if state is None else state.queue + sum(worker.waiting or 0 for worker in state.workers),
        requests=0 if state is None else state.window.requests,
        errors=0 if state is None else state.window.errors,
        tokenizer="" if state is None else state.tokenizer,
    )


def is_looked_at(pool: InferencePool) -> bool:
    """The operator has seen the spec as it is now."""
    return bool(pool.status.conditions) and pool.status.observed_generation >= pool.metadata.generation


def condition(pool: InferencePool, kind: ConditionType) -> Condition | None:
    return next((found for found in pool.status.conditions if found.type == kind), None)


def why(pool: InferencePool) -> str:
    """The first cause of not being ready, or of being degraded, or that it is paused; else empty."""
    if not is_looked_at(pool):
        return "the operator has not looked at it yet"
    ready, degraded = condition(pool, ConditionType.READY), condition(pool, ConditionType.DEGRADED)
    if ready is not None and ready.status != "True":
        return "the router is starting" if _router_has_just_begun(pool) else _words(ready)
    if degraded is not None and degraded.status == "True":
        return _words(degraded)
    paused = condition(pool, ConditionType.PAUSED)
    return _words(paused) if paused is not None and paused.status == "True" else ""


def standing(pool: InferencePool, engines: int | None) -> str:
    """What clients get of a pool of which so many engines serve; None where the router does not say.

    Ready allows for engines that are away (rollout.maxUnavailable), and not being Ready does not mean that nobody
    answers: so the engines are counted wherever fewer serve than are asked for. A start ends when the operator has
    found a routable one, not a moment before.
    """
    ready, asked = _is(pool, ConditionType.READY), pool.spec.replicas
    if ready and not asked:
        return "scaled to zero"
    if ready and engines is None:
        return "ready when last heard of; the router does not answer now"
    if ready and engines is not None and engines >= asked:
        return "ready"
    if not engines or not pool.status.routable_replicas:
        return "not ready"
    doing = "away" if _is(pool, ConditionType.DEGRADED) else "starting" if is_looked_at(pool) else "asked for"
    told = f"serving with {min(engines, asked)} of {asked} engines"
    return f"{told}, {asked - engines} {doing}" if engines < asked else told


def serving(facts: RouterFacts, workers: Mapping[tuple[str, int], WorkerLine]) -> int | None:
    """How many engines take requests: all ranks of theirs do. None where the router does not answer."""
    if facts.state is None:
        return None
    away = {pod for (pod, _), line in workers.items() if line.state != READY}
    known = {worker.pod for worker in facts.state.workers}
    return len(known - away) if facts.state.ready else 0


def _is(pool: InferencePool, kind: ConditionType) -> bool:
    found = condition(pool, kind)
    return found is not None and found.status == "True"


def _router_has_just_begun(pool: InferencePool) -> bool:
    """At a pool's first start nobody listens yet, and the words of refused connections tell nothing."""
    ready = condition(pool, ConditionType.READY)
    begins = ready is not None and ready.status != "True" and ready.reason == ROUTERS_STARTING
    return begins and not _is(pool, ConditionType.DEGRADED)


def _words(cause: Condition) -> str:
    return f"{cause.reason}: {cause.message}" if cause.message else cause.reason


def _worker_lines(facts: RouterFacts, pods: Mapping[str, EnginePod]) -> dict[tuple[str, int], WorkerLine]:
    served = _served_by_worker(facts.decisions)
    lines = {
        (worker.pod, worker.dp_rank): _line(worker, pods.get(worker.pod), served.get((worker.pod, worker.dp_rank)))
        for worker in _workers(facts)
    }
    unseen = set(pods) - {pod for pod, _ in lines}
    return lines | {(pod, 0): WorkerLine(pod, pods[pod].state, UNKNOWN, None, None, None, Served()) for pod in unseen}


def _workers(facts: RouterFacts) -> Sequence[WorkerState]:
    return () if facts.state is None else facts.state.workers


def _line(worker: WorkerState, pod: EnginePod | None, served: Served | None) -> WorkerLine:
    name = worker.pod if worker.dp_rank == 0 else f"{worker.pod} rank {worker.dp_rank}"
    counts = (worker.blocks, worker.running, worker.waiting)
    return WorkerLine(name, _state(worker, pod), worker.events.value, *counts, served or Served())


def _state(worker: WorkerState, pod: EnginePod | None) -> str:
    """What the Pod knows of itself goes first: a router learns of it a moment later."""
    if worker.draining:
        return "draining"
    if pod is not None and pod.state != READY:
        return pod.state
    if worker.circuit_open:
        return "failing"
    return READY if worker.ready else "starting"


def _served_by_pool(facts: RouterFacts) -> Served:
    if facts.state is None:
        return Served()
    window = facts.state.window
    return Served(
        _percent(window.cached_tokens, window.prompt_tokens),
        _percent(window.predicted_tokens, window.prompt_tokens),
        window.ttft_p50_ms,
        window.ttft_p90_ms,
    )


def _served_by_worker(decisions: Iterable[Decision]) -> dict[tuple[str, int], Served]:
    placed: dict[tuple[str, int], list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.pod is not None:
            placed[decision.pod, decision.dp_rank or 0].append(decision)
    return {worker: _served(answers) for worker, answers in placed.items()}


def _served(decisions: Sequence[Decision]) -> Served:
    told = [decision for decision in decisions if decision.cached_tokens is not None]
    prompt = sum(decision.prompt_tokens or 0 for decision in told)
    waits = sorted(decision.ttft_ms for decision in decisions if decision.ttft_ms is not None)
    return Served(
        _percent(sum(decision.cached_tokens or 0 for decision in told), prompt),
        _percent(sum(decision.predicted_cached_tokens or 0 for decision in told), prompt),
        _quantile(waits, 0.5),
        _quantile(waits, 0.9),
    )


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else None

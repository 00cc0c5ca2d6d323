"""What people are shown of a pool: pure functions from the pool's status and its router's facts to lines of text."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Condition, ConditionType
from kvpool_api.pool import InferencePool
from kvpool_api.wire import Decision, WorkerState

from kvpool_cli.router_facts import RouterFacts

UNKNOWN = "-"


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
    """A pool at one moment. `served` is over the last five minutes."""

    name: str
    url: str
    ready: bool
    why: str
    conditions: tuple[Condition, ...]
    workers: tuple[WorkerLine, ...]
    served: Served
    queue: int | None


def view(pool: InferencePool, facts: RouterFacts, pods: Mapping[str, str], url: str) -> PoolView:
    """`pods` names the engine Pods that exist, each with its state; a router may not know all of them yet.

    `url` is the door on this machine: the status names it as other Pods of a cluster would.
    """
    state = facts.state
    ready = condition(pool, ConditionType.READY)
    served = _served_by_worker(facts.decisions)
    lines = {(w.pod, w.dp_rank): _line(w, served.get((w.pod, w.dp_rank), Served())) for w in _workers(facts)}
    unseen = set(pods) - {pod for pod, _ in lines}
    lines |= {(pod, 0): WorkerLine(pod, pods[pod], UNKNOWN, None, None, None, Served()) for pod in unseen}
    return PoolView(
        name=pool.metadata.name,
        url=url or pool.status.router.url or "",
        ready=ready is not None and ready.status == "True",
        why=why(pool),
        conditions=tuple(pool.status.conditions),
        workers=tuple(line for _, line in sorted(lines.items())),
        served=_served_by_pool(facts),
        queue=None if state is None else state.queue + sum(worker.waiting or 0 for worker in state.workers),
    )


def condition(pool: InferencePool, kind: ConditionType) -> Condition | None:
    return next((found for found in pool.status.conditions if found.type == kind), None)


def why(pool: InferencePool) -> str:
    """The first cause of not being ready, or of being degraded; empty for a healthy pool."""
    if pool.status.observed_generation < pool.metadata.generation or not pool.status.conditions:
        return "the operator has not looked at it yet"
    ready, degraded = condition(pool, ConditionType.READY), condition(pool, ConditionType.DEGRADED)
    if ready is not None and ready.status != "True":
        return _words(ready)
    if degraded is not None and degraded.status == "True":
        return _words(degraded)
    return ""


def _words(cause: Condition) -> str:
    return f"{cause.reason}: {cause.message}" if cause.message else cause.reason


def _workers(facts: RouterFacts) -> Sequence[WorkerState]:
    return () if facts.state is None else facts.state.workers


def _line(worker: WorkerState, served: Served) -> WorkerLine:
    name = worker.pod if worker.dp_rank == 0 else f"{worker.pod} rank {worker.dp_rank}"
    return WorkerLine(name, _state(worker), worker.events.value, worker.blocks, worker.running, worker.waiting, served)


def _state(worker: WorkerState) -> str:
    if worker.draining:
        return "draining"
    if worker.circuit_open:
        return "failing"
    return "ready" if worker.ready else "starting"


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

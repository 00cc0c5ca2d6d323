"""Writes what the loop has found: the pool's status, and Events for what has changed. A pool at rest writes nothing."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from kvpool_api.conditions import Condition, ConditionType, Reason
from kvpool_api.labels import FIELD_MANAGER_EVENTS, FIELD_MANAGER_STATUS
from kvpool_api.manifest import Manifest, as_text, at
from kvpool_api.meta import API_VERSION, POOL_KIND
from kvpool_api.pool import ObjectMeta
from kvpool_api.status import InferencePoolStatus

from kvpool_operator.build.names import digest
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Cluster, ClusterError, NotFound, Ref
from kvpool_operator.manifests import rfc3339
from kvpool_operator.plan.actions import (
    Action,
    AdoptEngine,
    ApplyChild,
    ClearDraining,
    CreateEngine,
    DeleteEngine,
    Done,
    MarkDraining,
    SetRoutable,
    because,
    briefly,
    by_kind_and_reason,
    subject,
)

_BAD_WHEN_FALSE = frozenset(
    {
        ConditionType.ACCEPTED,
        ConditionType.WORKLOAD_READY,
        ConditionType.ROUTER_READY,
        ConditionType.KV_EVENTS_FLOWING,
        ConditionType.READY,
    }
)

_DEEDS: Mapping[type[Action], str] = {
    CreateEngine: "created",
    AdoptEngine: "took over",
    DeleteEngine: "deleted",
    MarkDraining: "draining",
    ClearDraining: "no longer draining",
}


async def report(
    cluster: Cluster,
    pool: ObjectMeta,
    before: InferencePoolStatus,
    status: InferencePoolStatus,
    done: Sequence[Done],
    now: float,
) -> None:
    """Events, then the status where it differs from before. Raises ClusterError if the status is not written.

    In this order a transition is told at least once: whoever is killed before the status stands sees the transition
    again, and its Event, in the same words, counts one more. What was done to engines and children cannot be seen
    again: it is told at most once. An Event that the API server does not take is not told again either.
    """
    is_new = not before.conditions
    for reason, warning in (*_acts(done, is_new), *_flips(before.conditions, status.conditions)):
        with contextlib.suppress(ClusterError):  # nothing depends on an Event
            await _tell(cluster, pool, reason, warning=warning, now=now)
    if status != before:
        await _write_status(cluster, pool, status)


async def _write_status(cluster: Cluster, pool: ObjectMeta, status: InferencePoolStatus) -> None:
    manifest: Manifest = {
        "apiVersion": API_VERSION,
        "kind": POOL_KIND,
        "metadata": {"name": pool.name, "namespace": pool.namespace, "uid": pool.uid},
        "status": status.model_dump(mode="json", by_alias=True),
    }
    await cluster.apply(manifest, manager=FIELD_MANAGER_STATUS, force=True, subresource="status")


def _acts(done: Sequence[Done], is_new: bool) -> Iterator[tuple[Reason, bool]]:
    """What was done to engines, and to children where somebody else had changed or deleted them, or the spec changed.

    Many deeds of one kind and reason are one Event. A new pool's children are no news; gates are for the log.
    """
    performed = [each.action for each in done if each.refused is None and not each.overtaken]
    for action in performed:
        if isinstance(action, ApplyChild) and not is_new:
            yield action.reason, False
    engines = [action for action in performed if not isinstance(action, ApplyChild | SetRoutable)]
    for alike in by_kind_and_reason(engines):
        reason = alike[0].reason
        yield because(reason.code, f"{_DEEDS[type(alike[0])]} {_engines(alike)}: {reason.message}"), False


def _engines(actions: Sequence[Action]) -> str:
    names = [subject(action) for action in actions]
    return f"engine {names[0]}" if len(names) == 1 else f"{len(names)} engines ({briefly(names)})"


def _flips(before: Sequence[Condition], after: Sequence[Condition]) -> Iterator[tuple[Reason, bool]]:
    """Conditions whose status is another than before. Of a pool's first conditions only trouble is news, told once."""
    if not before:
        yield from ((_told(each), True) for each in _born_bad(after)[:1])
    known = {condition.type: condition.status for condition in before}
    for each in after:
        if each.type in known and known[each.type] != each.status:
            yield _told(each), is_bad(each)


def _born_bad(first: Sequence[Condition]) -> Sequence[Condition]:
    """A refusal before what follows from it. That a new pool is not ready yet is no trouble."""
    return [each for each in first if each.type in (ConditionType.ACCEPTED, ConditionType.DEGRADED) and is_bad(each)]


def _told(flipped: Condition) -> Reason:
    return because(flipped.reason, f"{flipped.type} is {flipped.status}: {flipped.message}")


def is_bad(condition: Condition) -> bool:
    """Somebody should look at it."""
    if condition.type in _BAD_WHEN_FALSE:
        return condition.status == "False"
    return condition.type == ConditionType.DEGRADED and condition.status == "True"


async def _tell(cluster: Cluster, pool: ObjectMeta, reason: Reason, *, warning: bool, now: float) -> None:
    told = event(pool, reason, warning=warning, now=now)
    ref = Ref(seam.EVENT, pool.namespace, as_text(at(told, ("metadata", "name"))))
    with contextlib.suppress(NotFound):
        told = again(told, await cluster.get(ref))
    await cluster.apply(told, manager=FIELD_MANAGER_EVENTS, force=True)


def event(pool: ObjectMeta, reason: Reason, *, warning: bool, now: float) -> Manifest:
    """A v1 Event about the pool; the same words have the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{pool.name}.{digest([pool.uid, reason.code, reason.message])}",
            "namespace": pool.namespace,
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": POOL_KIND,
            "namespace": pool.namespace,
            "name": pool.name,
            "uid": pool.uid,
        },
        "reason": reason.code,
        "message": reason.message,
        "type": "Warning" if warning else "Normal",
        "source": {"component": "kvpool-operator"},
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "count": 1,
    }


def again(told: Manifest, before: Manifest) -> Manifest:
    """The Event once more: it keeps its first time and counts."""
    count = before.get("count")
    return {
        **told,
        "firstTimestamp": before.get("firstTimestamp") or told["firstTimestamp"],
        "count": count + 1 if isinstance(count, int) else 1,
    }

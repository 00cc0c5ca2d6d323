"""Why a Pod has no node, and the mend."""

import re

from kvpool_api.conditions import Reason
from kvpool_api.labels import ENGINE_CONTAINER
from kvpool_api.manifest import as_text, at

from kvpool_operator.manifests import condition, container_statuses
from kvpool_operator.observed import Engine
from kvpool_operator.plan.actions import because

MOUNT_MEND = "make what is missing, or mend its name in the spec"
SCHEDULERS_LOOK_WITHIN_S = 60.0
"""A scheduler that runs takes a moment to say at least that nothing fits."""
_NO_PREEMPTION = re.compile(r"\. not found\.?$")
"""What a scheduler adds where it has found no Pod to preempt."""
_NO_CLAIM = re.compile(r'persistentvolumeclaim "[^"]*" (?:not found|is being deleted)')
_UNBOUND_MEND = "see why the claim is not bound (kubectl describe pvc), and name a StorageClass that provides volumes"
_NO_ROOM_MEND = (
    "add nodes, or ask for less (spec.resources) or elsewhere (nodeSelector, affinity, tolerations in spec.podTemplate)"
)
_NO_ROOM_ROUTER = "add nodes, or ask for less: spec.router.resources"


def unschedulable(name: str, said: str, main: str) -> Reason:
    """The cause in a scheduler's words. `main` is the Pod's main container."""
    words = _NO_PREEMPTION.sub("", said).rstrip(". ")
    if _NO_CLAIM.search(words):
        return because("FailedMount", f"{name}: {words}; {MOUNT_MEND}")
    if "unbound immediate PersistentVolumeClaims" in words:
        return because("Unschedulable", f"{name}: {words}; {_UNBOUND_MEND}")
    mend = _NO_ROOM_MEND if main == ENGINE_CONTAINER else _NO_ROOM_ROUTER
    return because("Unschedulable", f"{name}: {words}; {mend}")


def seen_by_a_scheduler_at(engine: Engine) -> float | None:
    """When a scheduler should have looked at it (seconds since the epoch); None once one has."""
    has_node = at(engine.pod, ("spec", "nodeName")) or next(container_statuses(engine.pod), None)
    return (
        None
        if has_node or condition(engine.pod, "PodScheduled") or not engine.kept
        else engine.created_at + SCHEDULERS_LOOK_WITHIN_S
    )


def not_looked_at(engine: Engine, now: float) -> Reason | None:
    """No Event and no status tells of that: nobody has begun with it."""
    due = seen_by_a_scheduler_at(engine)
    if due is None or now < due:
        return None
    scheduler = as_text(at(engine.pod, ("spec", "schedulerName"))) or "default-scheduler"
    told = f"{engine.name}: no scheduler has looked at it in {SCHEDULERS_LOOK_WITHIN_S:g} s"
    mend = f"see that {scheduler} runs, or name another in spec.podTemplate (schedulerName)"
    return because("Unschedulable", f"{told}; {mend}")

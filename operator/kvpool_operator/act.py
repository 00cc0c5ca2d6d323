"""Does what a plan says, through the Cluster seam. The only writer of what a pool owns."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from kvpool_api import labels
from kvpool_api.manifest import Manifest, as_list, as_map, at

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import (
    AlreadyExists,
    Cluster,
    ClusterError,
    Conflict,
    NamespaceEnding,
    NotFound,
    Ref,
    Refused,
    Unavailable,
)
from kvpool_operator.manifests import is_terminating, rfc3339, uid_of
from kvpool_operator.ownership import controller
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

LOG = logging.getLogger(__name__)
MOST_AT_ONCE = 64
"""So many engines are asked for at the same moment: each costs an API server its admission and its quota."""


class Actor:
    """Performs actions in one namespace. One that is refused does not stop the others: status tells of it."""

    def __init__(self, cluster: Cluster, namespace: str, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._clock = clock

    async def perform(self, actions: Sequence[Action]) -> list[Done]:
        """Children in their order, then what engines there are side by side, then new ones from a slow start.

        New ones that were not tried are not in the answer. Raises Unavailable (what was done is not known) and
        NamespaceEnding (the pool goes with its namespace).
        """
        children = [action for action in actions if isinstance(action, ApplyChild)]
        new = [action for action in actions if isinstance(action, CreateEngine)]
        there = [action for action in actions if not isinstance(action, ApplyChild | CreateEngine)]
        _log([*children, *there])
        done = [await self._attempt(action) for action in children]
        return [*done, *await self._side_by_side(there), *await self._slow_start(new)]

    async def _slow_start(self, new: Sequence[CreateEngine]) -> list[Done]:
        """One, then two, then four … at once, as ReplicaSets do, until the cluster refuses what it would refuse to all.

        So a quota is met by as many as were just made, not by all that are missing.
        """
        done: list[Done] = []
        size = 1
        try:
            while len(done) < len(new) and not any(each.goes_for_all for each in done):
                done += await self._side_by_side(new[len(done) : len(done) + size])
                size = min(2 * size, MOST_AT_ONCE)
        finally:
            _log([each.action for each in done if each.refused is None and not each.overtaken])
        _log_refused(done, len(new) - len(done))
        return done

    async def _side_by_side(self, actions: Sequence[Action]) -> list[Done]:
        """Raises what one of them raised once all have ended."""
        outcomes = await asyncio.gather(*map(self._attempt, actions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Done)]

    async def _attempt(self, action: Action) -> Done:
        try:
            await self._call(action)
        except (Unavailable, NamespaceEnding):
            raise
        except ClusterError as error:
            if isinstance(error, AlreadyExists) and isinstance(action, CreateEngine):
                return await self._name_in_use(action, error)
            if _has_moved_on(action, error):
                return Done(action, None, overtaken=True)
            if not isinstance(action, CreateEngine):
                LOG.warning("%s %s was refused: %s", type(action).__name__, subject(action), error)
            return Done(action, str(error), _goes_for_all(action, error))
        return Done(action, None)

    async def _name_in_use(self, action: CreateEngine, taken: AlreadyExists) -> Done:
        """Our own Pod of that name is no refusal: another try or another operator made it, or it is still ending. One
        that has lost the labels by which it is found gets them again.
        """
        try:
            found = await self._cluster.get(Ref(seam.POD, self._namespace, action.name))
        except NotFound:
            return Done(action, None, overtaken=True)
        if controller(found).get("uid") != controller(action.manifest).get("uid"):
            return Done(action, f"{taken}, and it is not this pool's: delete it, and its place is taken within moments")
        wanted = as_map(at(action.manifest, ("metadata", "labels")))
        lost = [key for key, value in wanted.items() if at(found, ("metadata", "labels", key)) != value]
        if is_terminating(found) or not lost:
            return Done(action, None, overtaken=True)
        why = because("Adopted", f"its labels {', '.join(lost)} were gone or changed, so that it was not counted")
        owners = as_list(at(action.manifest, ("metadata", "ownerReferences")))
        return await self._attempt(AdoptEngine(action.name, uid_of(found), wanted, owners, why))

    def _call(self, action: Action) -> Awaitable[object]:
        match action:
            case ApplyChild(uid=""):
                return self._cluster.create(action.manifest, manager=labels.FIELD_MANAGER_CHILDREN)
            case ApplyChild():
                meta = {**as_map(action.manifest["metadata"]), "uid": action.uid}
                mended: Manifest = {**action.manifest, "metadata": meta}
                return self._cluster.apply(mended, manager=labels.FIELD_MANAGER_CHILDREN, force=True)
            case CreateEngine():
                return self._cluster.create(action.manifest, manager=labels.FIELD_MANAGER_CHILDREN)
            case AdoptEngine():
                return self._adopt(action)
            case DeleteEngine():
                return self._cluster.delete(Ref(seam.POD, self._namespace, action.name), uid=action.uid)
            case MarkDraining():
                return self._annotate(action.name, action.uid, {labels.DRAINING: rfc3339(self._clock())})
            case ClearDraining():
                return self._annotate(action.name, action.uid, {})
            case SetRoutable():
                return self._admit(action)

    def _adopt(self, action: AdoptEngine) -> Awaitable[Manifest]:
        """By a field manager of its own: one that had applied more to the Pod would now take the rest away."""
        manifest = self._pod(action.name, action.uid)
        known = self._metadata(action.name, action.uid)
        manifest["metadata"] = {**known, "labels": action.labels, "ownerReferences": action.owners}
        return self._cluster.apply(manifest, manager=labels.FIELD_MANAGER_ADOPTION, force=True)

    def _annotate(self, pod: str, uid: str, annotations: dict[str, str]) -> Awaitable[Manifest]:
        """Sets or clears a mark on a Pod, by a field manager that owns nothing but the mark.

        Server-side apply removes what a manager owned and now leaves out: so an empty apply clears the mark, and cannot
        touch the fields that another manager has applied.
        """
        manifest = self._pod(pod, uid)
        manifest["metadata"] = {**self._metadata(pod, uid), "annotations": {**annotations}}
        return self._cluster.apply(manifest, manager=labels.FIELD_MANAGER_DRAIN, force=True)

    def _admit(self, action: SetRoutable) -> Awaitable[Manifest]:
        passed: Manifest = {
            "type": labels.ROUTABLE_GATE,
            "status": "True",
            "reason": action.reason.code,
            "message": action.reason.message,
            "lastTransitionTime": rfc3339(self._clock()),
        }
        manifest: Manifest = {**self._pod(action.name, action.uid), "status": {"conditions": [passed]}}
        return self._cluster.apply(manifest, manager=labels.FIELD_MANAGER_GATE, force=True, subresource="status")

    def _pod(self, name: str, uid: str) -> Manifest:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": self._metadata(name, uid)}

    def _metadata(self, name: str, uid: str) -> Manifest:
        """With the uid: an apply to a Pod that was made anew under this name is then a conflict, not a stray write."""
        return {"name": name, "namespace": self._namespace, "uid": uid}


def _has_moved_on(action: Action, error: ClusterError) -> bool:
    """Something was made, replaced or gone before we came: the plan was made from what is no longer so."""
    known = not isinstance(action, ApplyChild | CreateEngine)
    return isinstance(error, Conflict) or (known and isinstance(error, NotFound))


def _goes_for_all(action: Action, error: ClusterError) -> bool:
    return isinstance(action, CreateEngine) and isinstance(error, Refused)


def _log(actions: Sequence[Action]) -> None:
    """A line for each kind of deed and reason."""
    for alike in by_kind_and_reason(actions):
        LOG.info("%s %s: %s", type(alike[0]).__name__, briefly([*map(subject, alike)]), alike[0].reason.message)


def _log_refused(done: Sequence[Done], untried: int) -> None:
    """A line, whatever number was refused."""
    refused = [each for each in done if each.refused is not None]
    rest = f"; {untried} more are not tried now" if untried else ""
    for first in refused[:1]:
        names = briefly([subject(each.action) for each in refused])
        LOG.warning("CreateEngine %s was refused: %s%s", names, first.refused, rest)

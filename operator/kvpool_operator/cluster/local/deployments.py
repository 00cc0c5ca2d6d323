"""Expands Deployments to Pods: replica N of a Deployment is the Pod `<name>-<template hash>-<N>`.

A changed template recreates replicas one at a time, and the old Pod is gone before the new one comes.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence

from kvpool_api.manifest import copied

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.manifests import (
    mapping,
    metadata,
    namespace_of,
    number,
    owner_uids,
    ref_of,
    sequence,
    text,
)
from kvpool_operator.cluster.local.store import Store
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.manifests import is_terminating, name_of, uid_of

FIELD_MANAGER = "kvpool-local-deployments"
TEMPLATE_HASH = "pod-template-hash"
SLOT = "kvpool.dev/local-replica"

Placement = Callable[[Manifest, Manifest], Manifest]
"""(deployment, pod) -> the Pod as this machine runs it."""


class Deployments:
    """`reconcile` makes and deletes Pods, at most one step a replica a call, and writes each Deployment's status."""

    def __init__(self, store: Store, placed: Placement, now: Callable[[], str]) -> None:
        self._store = store
        self._placed = placed
        self._now = now

    def reconcile(self, objects: Collection[Manifest]) -> None:
        for deployment in objects:
            if deployment["kind"] == seam.DEPLOYMENT.kind and not is_terminating(deployment):
                owned = [
                    manifest
                    for manifest in objects
                    if manifest["kind"] == seam.POD.kind and uid_of(deployment) in owner_uids(manifest)
                ]
                self._expand(deployment, owned)

    def _expand(self, deployment: Manifest, pods: Sequence[Manifest]) -> None:
        wanted = number(deployment.get("spec"), "replicas", 1)
        template_hash = _hash(mapping(deployment.get("spec"), "template"))
        by_replica = {_replica(pod): pod for pod in pods}
        for replica in range(wanted):
            if replica not in by_replica:
                pod = _pod(deployment, template_hash, replica)
                self._store.apply(self._placed(deployment, pod), manager=FIELD_MANAGER, force=True)
        for pod in _surplus(by_replica, wanted, template_hash):
            self._store.delete(ref_of(pod), uid=uid_of(pod))
        status = _status(deployment, pods, template_hash, self._now())
        self._store.apply(status, manager=FIELD_MANAGER, force=True, subresource="status")


def _surplus(by_replica: Mapping[int, Manifest], wanted: int, template_hash: str) -> list[Manifest]:
    """Pods to delete now: all beyond the replicas, and one outdated Pod, if no other is away."""
    beyond = [pod for replica, pod in by_replica.items() if replica >= wanted and not is_terminating(pod)]
    kept = {replica: pod for replica, pod in by_replica.items() if replica < wanted}
    outdated = [pod for _, pod in sorted(kept.items()) if _hash_of(pod) != template_hash]
    away = any(is_terminating(pod) for pod in kept.values()) or len(kept) < wanted
    unready = [pod for pod in outdated if not is_ready(pod)]
    replaceable = unready or (outdated if all(is_ready(pod) for pod in kept.values()) else [])
    return beyond + ([] if away else replaceable[:1])


def is_ready(pod: Manifest) -> bool:
    conditions = sequence(mapping(pod, "status"), "conditions")
    return any(text(c, "type") == "Ready" and text(c, "status") == "True" for c in conditions)


def _pod(deployment: Manifest, template_hash: str, replica: int) -> Manifest:
    template = mapping(deployment.get("spec"), "template")
    meta = mapping(template, "metadata")
    owner: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": name_of(deployment),
        "uid": uid_of(deployment),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return copied(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name_of(deployment)}-{template_hash}-{replica}",
                "namespace": namespace_of(deployment),
                "labels": {**mapping(meta, "labels"), TEMPLATE_HASH: template_hash},
                "annotations": {**mapping(meta, "annotations"), SLOT: str(replica)},
                "ownerReferences": [owner],
            },
            "spec": dict(mapping(template, "spec")),
        }
    )


def _replica(pod: Manifest) -> int:
    return int(text(mapping(metadata(pod), "annotations"), SLOT))


def _hash_of(pod: Manifest) -> str:
    return text(mapping(metadata(pod), "labels"), TEMPLATE_HASH)


def _hash(template: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]


def _status(deployment: Manifest, pods: Sequence[Manifest], template_hash: str, now: str) -> Manifest:
    wanted = number(deployment.get("spec"), "replicas", 1)
    living = [pod for pod in pods if not is_terminating(pod)]
    ready = sum(is_ready(pod) for pod in living)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name_of(deployment), "namespace": namespace_of(deployment)},
        "status": {
            "observedGeneration": number(deployment["metadata"], "generation", 1),
            "replicas": len(living),
            "updatedReplicas": sum(_hash_of(pod) == template_hash for pod in living),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, wanted - ready),
            "conditions": [_available(deployment, ready >= wanted, now)],
        },
    }


def _available(deployment: Manifest, is_available: bool, now: str) -> Manifest:
    status = "True" if is_available else "False"
    held = [c for c in sequence(mapping(deployment, "status"), "conditions") if text(c, "type") == "Available"]
    since = text(held[0], "lastTransitionTime") if held and text(held[0], "status") == status else now
    reason = "MinimumReplicasAvailable" if is_available else "MinimumReplicasUnavailable"
    return {"type": "Available", "status": status, "reason": reason, "lastTransitionTime": since}

"""Tells routers who is in their pool: a v1 PodList of its Pods in a file that is replaced at each change."""

import json
import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from kvpool_api.labels import POOL, ROLE, ROLE_ENGINE, ROLE_ROUTER
from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.manifests import labels_of, metadata, namespace_of, text
from kvpool_operator.cluster.seam import Manifest

PoolName = tuple[str, str]
"""(namespace, pool)"""


class MemberFiles:
    """One file a pool; a pool that has lost its last Pod keeps a file with none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[PoolName, bytes] = {}

    def path(self, pool: PoolName) -> Path:
        """The pool's file, which exists from now on."""
        if pool not in self._written:
            self._write(pool, [])
        return self._folder / f"{pool[0]}.{pool[1]}.json"

    def reconcile(self, objects: Collection[Manifest]) -> None:
        members: dict[PoolName, list[JsonValue]] = defaultdict(list)
        for manifest in objects:
            labels = labels_of(manifest)
            if manifest["kind"] == seam.POD.kind and labels.get(ROLE) in (ROLE_ENGINE, ROLE_ROUTER) and POOL in labels:
                members[namespace_of(manifest), text(labels, POOL)].append(_without_owners(manifest))
        for pool in members.keys() | self._written.keys():
            self._write(pool, members[pool])

    def _write(self, pool: PoolName, pods: list[JsonValue]) -> None:
        content = json.dumps({"apiVersion": "v1", "kind": "PodList", "items": pods}).encode()
        if self._written.get(pool) == content:
            return
        target = self._folder / f"{pool[0]}.{pool[1]}.json"
        fresh = target.with_suffix(".new")
        fresh.write_bytes(content)
        os.replace(fresh, target)
        self._written[pool] = content


def _without_owners(pod: Manifest) -> Manifest:
    """The Pod without `managedFields`, which is half of it and nothing to a router."""
    return {**pod, "metadata": {name: value for name, value in metadata(pod).items() if name != "managedFields"}}

"""The doors of pools: ports on 127.0.0.1 that the user knows, where the pool's routers answer in turns.

Each router listens at its Pod's address as in a cluster. One of them has the door besides, its admin port one above;
when it ends, however, another takes the door. The Pod is edited before it is made, so that it tells which is its door.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import count
from pathlib import Path

from kvpool_api.labels import POOL
from kvpool_api.wire import ADMIN_PORT_NAME, HTTP_PORT_NAME
from pydantic import JsonValue

from kvpool_operator.cluster.local.addresses import is_free
from kvpool_operator.cluster.local.errors import UnknownImage
from kvpool_operator.cluster.local.images import ImageTable
from kvpool_operator.cluster.local.manifests import labels_of, mapping, metadata, namespace_of, sequence, text
from kvpool_operator.cluster.local.members import PoolName
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.manifests import uid_of

DOOR_ADDRESS = "127.0.0.1"
DOOR_PORT = "kvpool.dev/local-door"
PORTS_ABOVE = {HTTP_PORT_NAME: 0, ADMIN_PORT_NAME: 1}


class Doors:
    """Pairs of ports: the first router Deployment gets `port` and the one above, each further the next free pair."""

    def __init__(self, images: ImageTable, members: Callable[[PoolName], Path], port: int) -> None:
        self._images = images
        self._members = members
        self._port = port
        self._taken: dict[str, int] = {}

    def reconcile(self, objects: Collection[Manifest]) -> None:
        """Free the ports of Deployments that are no more."""
        alive = {uid_of(manifest) for manifest in objects}
        self._taken = {uid: port for uid, port in self._taken.items() if uid in alive}

    def placed(self, deployment: Manifest, pod: Manifest) -> Manifest:
        """The Pod of a Deployment as it runs here: a router learns its members and its door."""
        containers = sequence(pod.get("spec"), "containers")
        if not any(self._is_router(container) for container in containers):
            return pod
        door = str(self._port_of(uid_of(deployment)))
        edited = [self._edited(pod, container, door) for container in containers]
        meta = metadata(pod)
        annotations = {**mapping(meta, "annotations"), DOOR_PORT: door}
        return {
            **pod,
            "metadata": {**meta, "annotations": annotations},
            "spec": {**mapping(pod, "spec"), "containers": edited},
        }

    def _edited(self, pod: Manifest, container: JsonValue, door: str) -> JsonValue:
        if not isinstance(container, dict) or not self._is_router(container):
            return container
        pool = (namespace_of(pod), text(labels_of(pod), POOL))
        return with_env(container, {"KVPOOL_MEMBERSHIP_FILE": str(self._members(pool)), "KVPOOL_SHARED_PORT": door})

    def _is_router(self, container: JsonValue) -> bool:
        try:
            return self._images.program(text(container, "image"), text(container, "name")).is_router
        except UnknownImage:
            return False

    def _port_of(self, deployment: str) -> int:
        if deployment not in self._taken:
            free = (
                port
                for port in count(self._port, 2)
                if port not in self._taken.values() and is_free(DOOR_ADDRESS, port) and is_free(DOOR_ADDRESS, port + 1)
            )
            self._taken[deployment] = next(free)
        return self._taken[deployment]


def with_env(container: Manifest, values: Mapping[str, str]) -> Manifest:
    """The container with these variables added, or in place of its own of that name."""
    kept = [entry for entry in sequence(container, "env") if text(entry, "name") not in values]
    added: list[JsonValue] = [{"name": name, "value": value} for name, value in values.items()]
    return {**container, "env": kept + added}


def door_of(pod: Manifest, port_name: str) -> tuple[str, int] | None:
    """(host, port) of the pool's door for this port of a router's Pod; None for other Pods and ports."""
    door = text(mapping(metadata(pod), "annotations"), DOOR_PORT)
    return (DOOR_ADDRESS, int(door) + PORTS_ABOVE[port_name]) if door and port_name in PORTS_ABOVE else None

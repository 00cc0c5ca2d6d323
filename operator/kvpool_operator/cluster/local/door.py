"""The doors of pools: the first replica of a router listens on 127.0.0.1 with ports that the user knows.

The Pod is edited before it is made, so that it tells the truth: its ports named `http` and `admin` are the real ones,
its environment names them to the router, and probes by number follow.
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
from kvpool_operator.cluster.local.kubelet import ADDRESS
from kvpool_operator.cluster.local.manifests import labels_of, mapping, metadata, namespace_of, number, sequence, text
from kvpool_operator.cluster.local.members import PoolName
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.manifests import uid_of

DOOR_ADDRESS = "127.0.0.1"


class Doors:
    """Pairs of ports: the first router's Deployment gets `port` and the one above, each further the next free pair."""

    def __init__(self, images: ImageTable, members: Callable[[PoolName], Path], port: int) -> None:
        self._images = images
        self._members = members
        self._port = port
        self._taken: dict[str, int] = {}

    def reconcile(self, objects: Collection[Manifest]) -> None:
        """Free the ports of Deployments that are no more."""
        alive = {uid_of(manifest) for manifest in objects}
        self._taken = {uid: port for uid, port in self._taken.items() if uid in alive}

    def placed(self, deployment: Manifest, pod: Manifest, replica: int) -> Manifest:
        """The Pod of a Deployment as it runs here: a router learns its members, the first one its ports."""
        containers = sequence(pod.get("spec"), "containers")
        edited = [self._edited(deployment, pod, container, replica) for container in containers]
        is_door = replica == 0 and any(self._is_router(container) for container in containers)
        meta = metadata(pod)
        annotations = {**mapping(meta, "annotations"), **({ADDRESS: DOOR_ADDRESS} if is_door else {})}
        return {
            **pod,
            "metadata": {**meta, "annotations": annotations},
            "spec": {**mapping(pod, "spec"), "containers": edited},
        }

    def _edited(self, deployment: Manifest, pod: Manifest, container: JsonValue, replica: int) -> JsonValue:
        if not isinstance(container, dict) or not self._is_router(container):
            return container
        pool = (namespace_of(pod), text(labels_of(pod), POOL))
        told = with_env(container, {"KVPOOL_MEMBERSHIP_FILE": str(self._members(pool))})
        if replica:
            return told
        http = self._port_of(uid_of(deployment))
        ports = {HTTP_PORT_NAME: http, ADMIN_PORT_NAME: http + 1}
        env = {"KVPOOL_HTTP_PORT": str(http), "KVPOOL_ADMIN_PORT": str(http + 1)}
        return with_ports(with_env(told, env), ports)

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


def with_ports(container: Manifest, ports: Mapping[str, int]) -> Manifest:
    """The container with its named ports moved; numeric ports of its probes move along."""
    moved = {
        number(port, "containerPort", 0): ports[text(port, "name")]
        for port in sequence(container, "ports")
        if text(port, "name") in ports
    }
    edited: Manifest = {
        **container,
        "ports": [_moved(port, "containerPort", moved) for port in sequence(container, "ports")],
    }
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        spec = container.get(probe)
        if isinstance(spec, dict):
            edited[probe] = {name: _moved(check, "port", moved) for name, check in spec.items()}
    return edited


def _moved(value: JsonValue, key: str, moved: Mapping[int, int]) -> JsonValue:
    if isinstance(value, dict) and value.get(key) in moved:
        return {**value, key: moved[number(value, key, 0)]}
    return value

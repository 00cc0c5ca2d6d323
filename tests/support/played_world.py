"""What lives around an operator in a control plane without nodes, played by the test: kubelets and routers.

Engines are born on a node (`played_node`), so that deleting one takes its kubelet's word as in a real cluster. The node
has a heartbeat, since the controller manager takes away what is bound to one that it misses.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.labels import DRAINING, POOL, ROLE, ROLE_ENGINE, ROLE_ROUTER, ROUTABLE_GATE
from kvpool_api.manifest import as_list, as_map, at
from kvpool_api.wire import RouterState
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import Manifest, NotFound, Ref
from kvpool_operator.manifests import annotation, is_terminating, is_true, label, name_of, rfc3339, uid_of
from kvpool_operator.routers import RouterSilent
from pool_world import router_state, worker_state

POOL_NAME = "qwen"
ROUTER_ADDRESS = "127.77.0.1"
NODE = "played"
HEARTBEAT_S = 10.0
BORN_BY_THE_CLUSTER = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}


class Heart:
    """The heartbeat of one Node object."""

    def __init__(self, api: Api, node: str) -> None:
        self._api, self._node = api, node
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beats, name=f"heart of {node}")
        self._thread.start()

    def stops(self) -> None:
        """The node is lost, and it is known at once instead of after some 40 s of silence."""
        self.ends()
        self._says("Unknown")

    def ends(self) -> None:
        self._over.set()
        self._thread.join()

    def _beats(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):  # the API server is away: tests of faults do that
                self._says("True")
            self._over.wait(HEARTBEAT_S)

    def _says(self, status: str) -> None:
        now = rfc3339(time.time())
        ready = {"type": "Ready", "status": status, "reason": "Played", "lastHeartbeatTime": now}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node}}
        body = json.dumps({**node, "status": {"conditions": [ready]}})
        self._api._ask("PUT", f"/api/v1/nodes/{self._node}/status", body.encode())


@contextmanager
def played_node(plane: Running, name: str = NODE) -> Iterator[Heart]:
    """A Node object that is Ready, with a heartbeat while the block lasts."""
    api = Api(plane.kubeconfig)
    api.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    heart = Heart(api, name)
    try:
        yield heart
    finally:
        heart.ends()


@dataclass
class PlayedWorld:
    """One pool's namespace. `step` lets kubelets act once, and holds what is seen to the bounds."""

    cluster: KubeCluster
    namespace: str
    most_engines: int = 1000
    """More than this may never stand at once, Pods on their way out left aside."""
    fewest_available: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    """By engine: what the router says; a request of a draining engine ends with the next step."""
    router_address: str = ROUTER_ADDRESS

    @property
    def ref(self) -> Ref:
        return Ref(seam.POOL, self.namespace, POOL_NAME)

    async def user_applies(self, **spec: object) -> None:
        template = {"spec": {"nodeName": NODE}}
        whole = {"model": {"name": "Qwen/Qwen3-32B"}, "podTemplate": template, "router": {"replicas": 1}, **spec}
        head = {"apiVersion": seam.POOL.api_version, "kind": "InferencePool"}
        manifest: Manifest = {**head, "metadata": {"name": POOL_NAME, "namespace": self.namespace}, "spec": whole}
        await self.cluster.apply(manifest, manager="user", force=True)

    async def pool(self) -> Manifest:
        return await self.cluster.get(self.ref)

    async def pods(self, role: str = ROLE_ENGINE) -> list[Manifest]:
        wanted = {POOL: POOL_NAME, ROLE: role}
        return list((await self.cluster.list(seam.POD, namespace=self.namespace, labels=wanted)).items)

    async def standing(self) -> list[Manifest]:
        return [pod for pod in await self.pods() if not is_terminating(pod)]

    async def step(self) -> bool:
        """Whether everything has come to rest: each Pod ready, none leaving."""
        engines, routers = await self.pods(), await self._routers()
        await self._hold_to_bounds(engines)
        moved = [await self._tends(pod) for pod in (*engines, *routers)]
        return bool(moved) and not any(moved)

    async def objects(self) -> Mapping[tuple[str, str], str]:
        """(kind, name) -> uid of all that is in the namespace but Events; routers' Pods, whose names are random, are
        told by their role.
        """
        found: dict[tuple[str, str], str] = {}
        for kind in seam.KINDS.values():
            if kind is seam.EVENT:
                continue
            for item in (await self.cluster.list(kind, namespace=self.namespace, labels={})).items:
                is_router = kind is seam.POD and label(item, ROLE) == ROLE_ROUTER
                key = (kind.kind, ROLE_ROUTER if is_router else name_of(item))
                assert key not in found, f"{key} is there twice"
                if key not in BORN_BY_THE_CLUSTER:
                    found[key] = uid_of(item)
        return found

    async def conditions(self) -> dict[str, str]:
        told = as_list(at(await self.pool(), ("status", "conditions")))
        return {str(as_map(each)["type"]): str(as_map(each)["status"]) for each in told}

    async def is_as_asked(self) -> bool:
        """The operator says of the newest spec that all is as asked."""
        pool = await self.pool()
        told = [as_map(each) for each in as_list(at(pool, ("status", "conditions")))]
        wanted = {"Ready": "True", "Progressing": "False"}
        found = {
            str(each["type"]): str(each["status"])
            for each in told
            if each["observedGeneration"] == at(pool, ("metadata", "generation"))
        }
        return all(found.get(kind) == status for kind, status in wanted.items())

    async def state(self, host: str, port: int, token: str) -> RouterState:
        """As the routers answer that watch these Pods (`RouterAdmin`)."""
        if host != self.router_address:
            raise RouterSilent("nobody is there")
        return await self.router_state()

    async def router_state(self) -> RouterState:
        workers = [
            worker_state(
                name_of(pod),
                pod_uid=uid_of(pod),
                draining=annotation(pod, DRAINING) is not None,
                in_flight=self.in_flight[name_of(pod)],
            )
            for pod in await self.pods()
            if is_true(pod, "ContainersReady")
        ]
        return router_state(workers)

    async def _routers(self) -> list[Manifest]:
        """Those that the Deployment asks for, once the controller manager has made them."""
        end = time.monotonic() + 20
        while True:
            wanted = (await self.cluster.list(seam.DEPLOYMENT, namespace=self.namespace, labels={})).items
            found = await self.pods(ROLE_ROUTER)
            if len(found) >= sum(int(str(at(each, ("spec", "replicas")))) for each in wanted):
                return found
            assert time.monotonic() < end, f"no router Pod within 20 s of {[name_of(each) for each in wanted]}"
            await asyncio.sleep(0.02)

    async def _hold_to_bounds(self, engines: list[Manifest]) -> None:
        owner = uid_of(await self.pool())
        for pod in engines:
            owners = [as_map(each) for each in as_list(at(pod, ("metadata", "ownerReferences")))]
            assert [(each["uid"], each["controller"]) for each in owners] == [(owner, True)], name_of(pod)
        standing = [pod for pod in engines if not is_terminating(pod)]
        assert len(standing) <= self.most_engines, f"{len(standing)} stand: {[name_of(pod) for pod in standing]}"
        available = [pod for pod in standing if is_true(pod, "Ready") and annotation(pod, DRAINING) is None]
        assert len(available) >= self.fewest_available, f"only {len(available)} are available"

    async def _tends(self, pod: Manifest) -> bool:
        """Whether there was something to do, or something will be."""
        ref = Ref(seam.POD, self.namespace, name_of(pod))
        if is_terminating(pod):
            with suppress(NotFound):
                await self.cluster.delete(ref, uid=uid_of(pod), grace_s=0)
            return True
        is_engine = label(pod, ROLE) == ROLE_ENGINE
        opened = not is_engine or is_true(pod, ROUTABLE_GATE)
        if is_true(pod, "ContainersReady") and is_true(pod, "Ready") == opened:
            is_draining = annotation(pod, DRAINING) is not None
            if is_draining:
                self.in_flight.pop(name_of(pod), None)
            return is_draining or not opened
        await self._says(pod, opened)
        return True

    async def _says(self, pod: Manifest, opened: bool) -> None:
        now = rfc3339(time.time())
        ready: Manifest = {"type": "Ready", "status": str(opened), "lastTransitionTime": now}
        if not opened:
            ready["reason"] = "ReadinessGatesNotReady"
        running = {"name": label(pod, ROLE), "ready": True, "restartCount": 0, "image": "any", "imageID": ""}
        status = {
            "phase": "Running",
            "podIP": self.router_address,
            "conditions": [{"type": "ContainersReady", "status": "True", "lastTransitionTime": now}, ready],
            "containerStatuses": [{**running, "state": {"running": {"startedAt": now}}}],
        }
        meta = {"name": name_of(pod), "namespace": self.namespace, "uid": uid_of(pod)}
        manifest: Manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}
        with suppress(NotFound, seam.Conflict):
            await self.cluster.apply(manifest, manager="kubelet", force=True, subresource="status")

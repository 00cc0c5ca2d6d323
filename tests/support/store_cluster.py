"""A Cluster that only keeps objects: the local cluster's store, without anybody who runs Pods. Records and refuses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from kvpool_api.crd import custom_resource_definition
from kvpool_api.labels import ROUTABLE_GATE
from kvpool_api.validation import Admission
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.history import Selection
from kvpool_operator.cluster.local.store import Store
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.manifests import rfc3339
from kvpool_operator.routers import RouterSilent
from pool_world import T0


@cache
def admission() -> Admission:
    return Admission(custom_resource_definition())


def writes_of(kind: str, error: Exception) -> Callable:
    """Answers each write of this kind with the error."""
    return lambda target: error if isinstance(target, dict) and target["kind"] == kind else None


@dataclass
class StoreCluster:
    """`refusing` answers an apply or delete (manifest or Ref) with the error to raise, or None."""

    now: float = T0
    writes: list = field(default_factory=list)
    refusing: Callable = lambda target: None
    logs: dict = field(default_factory=dict)
    """By Pod's name."""

    def __post_init__(self) -> None:
        self.store = Store(admit=admission().admit, clock=self._time, history=4)

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def create(self, manifest, *, manager):
        self._attempt(manifest, (manifest["kind"], manifest["metadata"]["name"], None))
        return self.store.create(manifest, manager=manager)

    async def apply(self, manifest, *, manager, force, subresource=None):
        self._attempt(manifest, (manifest["kind"], manifest["metadata"]["name"], subresource))
        return self.store.apply(manifest, manager=manager, force=force, subresource=subresource)

    async def get(self, ref):
        self._refuse(ref)
        return self.store.get(ref)

    async def list(self, kind, *, namespace, labels):
        self._refuse(kind)
        return self.store.list(Selection(kind, namespace, labels))

    async def delete(self, ref, *, uid, grace_s=None):
        self._attempt(ref, ("delete", ref.name, None))
        self.store.delete(ref, uid=uid, grace_s=grace_s)

    async def ended_log(self, pod, *, container, lines):
        self._refuse(pod)
        return "\n".join(self.logs.get(pod.name, "").splitlines()[-lines:])

    async def latest_event(self, about, *, uid):
        self._refuse(seam.EVENT)
        return self.store.latest_event(about, uid=uid)

    def watch(self, kind, *, namespace, labels, resource_version):
        return self.store.watch(Selection(kind, namespace, labels), resource_version)

    def _attempt(self, target, written) -> None:
        self._refuse(target)
        self.writes.append(written)

    def _refuse(self, target) -> None:
        if (error := self.refusing(target)) is not None:
            raise error

    # what others do in a cluster

    async def user_applies(self, name="qwen", **spec):
        manifest = {
            "apiVersion": "kvpool.dev/v1alpha1",
            "kind": "InferencePool",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"model": {"name": "Qwen/Qwen3-32B"}, **spec},
        }
        self.store.apply(manifest, manager="user", force=True)
        return Ref(seam.POOL, "default", name)

    def pods(self, role="engine"):
        return self.store.list(Selection(seam.POD, "default", {"kvpool.dev/role": role})).items

    def kubelet_reports(self, pod, **conditions) -> None:
        """Conditions by name: ContainersReady="True"; others stay as they are."""
        told = [
            {"type": name, "status": status, "lastTransitionTime": rfc3339(self.now)}
            for name, status in conditions.items()
        ]
        kept = [c for c in pod.get("status", {}).get("conditions", []) if c["type"] not in conditions]
        status = {"phase": "Running", "conditions": [*[c for c in kept if c["type"] != ROUTABLE_GATE], *told]}
        self.write_status(pod, status)

    def write_status(self, pod, status) -> None:
        meta = {"name": pod["metadata"]["name"], "namespace": "default"}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}
        self.store.apply(manifest, manager="kubelet", force=True, subresource="status")

    def router_runs(self, name="qwen-router-0") -> None:
        """A Pod of the router's Deployment, running and ready."""
        labels = {"kvpool.dev/pool": "qwen", "kvpool.dev/role": "router"}
        container = {"name": "router", "image": "r", "ports": [{"name": "admin", "containerPort": 8101}]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"containers": [container]},
        }
        self.store.apply(pod, manager="deployment", force=True)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(self.now)}
        running = {"name": "router", "state": {"running": {"startedAt": rfc3339(self.now)}}}
        self.write_status(
            pod, {"phase": "Running", "podIP": "10.0.0.9", "conditions": [ready], "containerStatuses": [running]}
        )

    def pool(self, name="qwen"):
        return self.store.get(Ref(seam.POOL, "default", name))

    def events(self):
        return self.store.list(Selection(seam.EVENT, "default", {})).items


@dataclass
class Routers:
    """Routers that answer what they are told to; silent otherwise."""

    answer: object = None
    asked: list = field(default_factory=list)

    async def state(self, host, port, token):
        self.asked.append((host, port, token))
        if self.answer is None:
            raise RouterSilent("no answer")
        return self.answer() if callable(self.answer) else self.answer

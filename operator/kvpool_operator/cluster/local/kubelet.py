"""Runs the Pods of the store as processes on this machine, and writes what becomes of them into their status."""

import asyncio
import contextlib
from collections.abc import Collection

from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.container import Container
from kvpool_operator.cluster.local.container_status import ContainerStatus, pod_status
from kvpool_operator.cluster.local.launch import FIELD_MANAGER, Node, launch
from kvpool_operator.cluster.local.manifests import mapping, namespace_of, number, ref_of, sequence, text
from kvpool_operator.cluster.local.store import DEFAULT_POD_GRACE_S
from kvpool_operator.cluster.local.volumes import discard
from kvpool_operator.cluster.seam import Conflict, Manifest, NotFound
from kvpool_operator.manifests import is_terminating, name_of, uid_of


class Kubelet:
    """One task a Pod; `reconcile` brings the tasks in line with the store and never waits."""

    def __init__(self, node: Node, tasks: asyncio.TaskGroup) -> None:
        self._node = node
        self._tasks = tasks
        self._running: dict[str, RunningPod] = {}

    def reconcile(self, objects: Collection[Manifest]) -> None:
        pods = {uid_of(manifest): manifest for manifest in objects if manifest["kind"] == seam.POD.kind}
        for uid, pod in pods.items():
            if uid not in self._running:
                self._running[uid] = running = RunningPod(self._node, pod)
                self._tasks.create_task(self._run(uid, running))
            self._running[uid].saw(pod)
        for uid in self._running.keys() - pods.keys():
            self._running[uid].kill()

    def ended_log(self, uid: str, container: str) -> str:
        """What the last ended process of that container of that Pod wrote, as far as it is kept."""
        running = self._running.get(uid)
        return running.ended_log(container) if running else ""

    async def end_all(self, grace_s: float) -> None:
        """End every process now: SIGTERM, no preStop, SIGKILL once the grace is over."""
        await asyncio.gather(*(running.end_now(grace_s) for running in tuple(self._running.values())))

    async def _run(self, uid: str, running: "RunningPod") -> None:
        try:
            await running.run()
        finally:
            del self._running[uid]


class RunningPod:
    """One Pod from its first container to the end of its last process."""

    def __init__(self, node: Node, pod: Manifest) -> None:
        self._node = node
        self._pod = pod
        self._changed = asyncio.Event()
        self._deleted = asyncio.Event()
        self._hurried = asyncio.Event()
        self._address = node.addresses.take()
        self._containers = [self._container(container) for container in sequence(pod.get("spec"), "containers")]

    def saw(self, pod: Manifest) -> None:
        """The Pod as it is in the store now."""
        if pod is not self._pod:
            self._pod = pod
            self._changed.set()
        if is_terminating(pod):
            self._deleted.set()

    def ended_log(self, container: str) -> str:
        logs = (each.status.ended_log for each in self._containers if each.status.name == container)
        return next(logs, "")

    def kill(self) -> None:
        """End at once, without grace: the object was removed from the store, so nobody waits for a graceful end."""
        self._hurried.set()
        self._deleted.set()
        for container in self._containers:
            container.kill()

    async def end_now(self, grace_s: float) -> None:
        for container in self._containers:
            container.halt()
        self._hurried.set()
        self._deleted.set()
        await asyncio.gather(*(container.end(grace_s) for container in self._containers))

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._keep_status())
                runs = [tasks.create_task(container.run()) for container in self._containers]
                await self._deleted.wait()
                await self._end()
                await asyncio.gather(*runs)
                writing.cancel()
        finally:
            self._node.addresses.release(self._address)
            discard(self._node.run_dir.of_pod(self._pod))
        self._node.store.remove(ref_of(self._pod), uid=uid_of(self._pod))

    async def _end(self) -> None:
        """preStop, SIGTERM, SIGKILL: within the grace period, which counts from the deletion."""
        loop = asyncio.get_running_loop()
        grace_s = number(self._pod["metadata"], "deletionGracePeriodSeconds", DEFAULT_POD_GRACE_S)
        until = loop.time() + grace_s
        for container in self._containers:
            container.halt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._pre_stop_s(), grace_s)):
                await self._hurried.wait()
        left_s = max(0.0, until - loop.time())
        await asyncio.gather(*(container.end(left_s) for container in self._containers))

    def _pre_stop_s(self) -> int:
        """The longest preStop sleep; other preStop hooks do not run here."""
        hooks = (mapping(mapping(c, "lifecycle"), "preStop") for c in sequence(self._pod.get("spec"), "containers"))
        return max((number(mapping(hook, "sleep"), "seconds", 0) for hook in hooks), default=0)

    async def _keep_status(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._write_status()

    def _write_status(self) -> None:
        statuses = [container.status for container in self._containers]
        status = pod_status(self._pod, statuses, address=self._address, now=self._node.now())
        written: Manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name_of(self._pod),
                "namespace": namespace_of(self._pod),
                "uid": uid_of(self._pod),
            },
            "status": status,
        }
        with contextlib.suppress(NotFound, Conflict):
            self._node.store.apply(written, manager=FIELD_MANAGER, force=True, subresource="status")

    def _container(self, spec: JsonValue) -> Container:
        return Container(
            ContainerStatus(text(spec, "name"), text(spec, "image")),
            lambda: launch(self._node, self._pod, spec, self._address),
            restart_policy=text(self._pod.get("spec"), "restartPolicy", "Always"),
            grace_s=number(self._pod.get("spec"), "terminationGracePeriodSeconds", DEFAULT_POD_GRACE_S),
            changed=self._changed.set,
            now=self._node.now,
        )

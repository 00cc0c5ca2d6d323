"""`LocalCluster`: the Cluster seam on this machine, without Kubernetes."""

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import leftovers, owners
from kvpool_operator.cluster.local.addresses import LoopbackBlock, require_free
from kvpool_operator.cluster.local.deployments import Deployments, is_ready
from kvpool_operator.cluster.local.door import DOOR_ADDRESS, Doors, door_of
from kvpool_operator.cluster.local.errors import Unsupported
from kvpool_operator.cluster.local.history import Selection
from kvpool_operator.cluster.local.images import ImageTable
from kvpool_operator.cluster.local.kubelet import Kubelet
from kvpool_operator.cluster.local.launch import Node
from kvpool_operator.cluster.local.manifests import has_labels, mapping, number, ref_of, sequence, text
from kvpool_operator.cluster.local.members import MemberFiles
from kvpool_operator.cluster.local.run_dir import RunDir
from kvpool_operator.cluster.local.store import Admit, Store, rfc3339
from kvpool_operator.cluster.seam import Change, Kind, Listing, Manifest, NotFound, Ref, Unavailable
from kvpool_operator.manifests import uid_of

LOG = logging.getLogger(__name__)

Step = Callable[[Collection[Manifest]], None]
"""Looks at all objects and does what they ask of it, without waiting."""


class LocalCluster:
    """Objects in memory, Pods as child processes; an async context, at whose end no process is left.

        store ── each write wakes ──> collect orphans, expand Deployments, run Pods, write the pools' member files
          ^                                                               │
          └───────────────────────── status of Pods ──────────────────────┘

    A killed parent leaves no process either: the kernel kills each container with it, a warden process ends what those
    had started, and the next run sweeps the run directory's mark.
    """

    def __init__(
        self,
        images: ImageTable,
        *,
        run_dir: Path,
        router_port: int,
        admit: Admit,
        environment: Mapping[str, str],
        stop_grace_s: float = 3.0,
        history: int = 4096,
    ) -> None:
        """Nothing happens yet. `environment` is what every container starts from, such as PATH and HOME."""
        self._store = Store(admit=admit, clock=_utc_now, history=history)
        self._images = images
        self._run_dir = RunDir(run_dir)
        self._router_port = router_port
        self._environment = dict(environment)
        self._stop_grace_s = stop_grace_s
        self._ending = contextlib.AsyncExitStack()
        self._kubelet: Kubelet | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        """Raises LocalClusterError: PortInUse, ExecutableNotFound, RunDirUnusable or Unsupported."""
        if not sys.platform.startswith("linux"):
            raise Unsupported("the local cluster needs Linux: it gives each Pod an address of 127.0.0.0/8")
        self._images.check_executables(self._environment.get("PATH"))
        for port, what in ((self._router_port, "the pool's door"), (self._router_port + 1, "its admin port")):
            require_free(DOOR_ADDRESS, port, what=what)
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._ending = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ending.__aexit__(kind, error, trace)

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        return self._objects().create(manifest, manager=manager)

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool, subresource: Literal["status"] | None = None
    ) -> Manifest:
        return self._objects().apply(manifest, manager=manager, force=force, subresource=subresource)

    async def get(self, ref: Ref) -> Manifest:
        return self._objects().get(ref)

    async def list(self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str]) -> Listing:
        return self._objects().list(Selection(kind, namespace, labels))

    async def delete(self, ref: Ref, *, uid: str, grace_s: int | None = None) -> None:
        self._objects().delete(ref, uid=uid, grace_s=grace_s)

    async def ended_log(self, pod: Ref, *, container: str, lines: int) -> str:
        uid = uid_of(self._objects().get(pod))
        log = self._kubelet.ended_log(uid, container) if self._kubelet else ""
        return "\n".join(log.splitlines()[-lines:])

    async def latest_event(self, about: Ref, *, uid: str) -> Manifest | None:
        return self._objects().latest_event(about, uid=uid)

    def watch(
        self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str], resource_version: str
    ) -> AsyncGenerator[Change, None]:
        return self._objects().watch(Selection(kind, namespace, labels), resource_version)

    def address_of(self, namespace: str, service: str, port_name: str = "http") -> tuple[str, int] | None:
        """(host, port) behind a Service's port: routers' door, else a ready Pod's, else any's; None without Pods."""
        try:
            spec = mapping(self._store.get(Ref(seam.SERVICE, namespace, service)), "spec")
        except NotFound:
            return None
        pods = self._store.list(Selection(seam.POD, namespace, {})).items
        chosen = sorted((pod for pod in pods if has_labels(pod, mapping(spec, "selector"))), key=is_ready, reverse=True)
        found = (
            door_of(pod, port_name) or (text(pod.get("status"), "podIP"), number(port, "containerPort", 0))
            for pod in chosen
            for container in sequence(pod.get("spec"), "containers")
            for port in sequence(container, "ports")
            if text(port, "name") == port_name and text(pod.get("status"), "podIP")
        )
        return next(found, None)

    def _objects(self) -> Store:
        """The store, for a call from outside. Raises Unavailable once the cluster has stopped by a fault of its own."""
        if self._failure is not None:
            raise Unavailable(f"the local cluster has stopped: {self._failure!r}")
        return self._store

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        self._run_dir.open()
        stack.callback(self._run_dir.close)
        await stack.enter_async_context(_warden(self._run_dir.mark))
        addresses = LoopbackBlock(random.Random())  # noqa: S311 - any free block will do
        stack.callback(addresses.close)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        )
        node = Node(self._store, self._images, addresses, self._run_dir, http, self._environment, _now)
        await stack.enter_async_context(self._controllers(node))

    @contextlib.asynccontextmanager
    async def _controllers(self, node: Node) -> AsyncIterator[None]:
        leaving = asyncio.Event()
        work = asyncio.create_task(self._control(node, leaving))
        work.add_done_callback(self._note_failure)
        try:
            yield
        finally:
            leaving.set()
            await work

    async def _control(self, node: Node, leaving: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._kubelet = kubelet = Kubelet(node, tasks)
            members = MemberFiles(self._run_dir.members)
            doors = Doors(self._images, members.path, self._router_port)
            deployments = Deployments(self._store, doors.placed, _now)
            steps = (self._collect, doors.reconcile, deployments.reconcile, kubelet.reconcile, members.reconcile)
            following = tasks.create_task(self._follow(*steps))
            await leaving.wait()
            following.cancel()
            await kubelet.end_all(self._stop_grace_s)

    def _note_failure(self, work: asyncio.Task[None]) -> None:
        """A fault of ours, not of a Pod: all processes are ended by now, and calls are answered with it."""
        if not work.cancelled() and (failure := work.exception()) is not None:
            LOG.critical("the local cluster has stopped", exc_info=failure)
            self._failure = failure

    async def _follow(self, *steps: Step) -> None:
        while True:
            version = self._store.resource_version
            for step in steps:
                step(self._store.objects())
            await self._store.moved(version)

    def _collect(self, objects: Collection[Manifest]) -> None:
        for orphan in owners.orphans(objects):
            self._store.delete(ref_of(orphan), uid=uid_of(orphan))


@contextlib.asynccontextmanager
async def _warden(mark: str) -> AsyncIterator[None]:
    """A process that outlives this one just long enough to end what it leaves behind."""
    warden = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", leftovers.__file__, mark),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert warden.stdin is not None  # noqa: S101 - it was asked for
        warden.stdin.close()
        await warden.wait()


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _now() -> str:
    return rfc3339(_utc_now())

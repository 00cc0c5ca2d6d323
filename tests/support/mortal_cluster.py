"""The Cluster seam under an operator that is killed by -9: what the API server then sees of it."""

import asyncio

from kvpool_operator.cluster.seam import Cluster


class Killed(BaseException):
    """The process is no more. No handler of errors may see this, and none of its code runs after it."""


class MortalCluster:
    """After the n-th write nothing more reaches the cluster, and nothing comes back, that write's answer included.

    That is all that an API server can tell of a process that was killed: so this stands for it where every n is tried.
    Writes go one at a time, so that n has one meaning.
    """

    def __init__(self, cluster: Cluster, dies_after: int | None = None) -> None:
        self._cluster = cluster
        self._dies_after = dies_after
        self._turn = asyncio.Lock()
        self.writes: list[str] = []

    @property
    def is_dead(self) -> bool:
        return len(self.writes) == self._dies_after

    async def create(self, manifest, *, manager):
        return await self._write("create", manifest, lambda: self._cluster.create(manifest, manager=manager))

    async def apply(self, manifest, *, manager, force, subresource=None):
        def call():
            return self._cluster.apply(manifest, manager=manager, force=force, subresource=subresource)

        return await self._write(f"apply {subresource or ''}", manifest, call)

    async def delete(self, ref, *, uid, grace_s=None):
        named = {"kind": ref.kind.kind, "metadata": {"name": ref.name}}
        await self._write("delete", named, lambda: self._cluster.delete(ref, uid=uid, grace_s=grace_s))

    async def get(self, ref):
        self._live()
        return await self._cluster.get(ref)

    async def list(self, kind, *, namespace, labels):
        self._live()
        return await self._cluster.list(kind, namespace=namespace, labels=labels)

    async def ended_log(self, pod, *, container, lines):
        self._live()
        return await self._cluster.ended_log(pod, container=container, lines=lines)

    async def latest_event(self, about, *, uid):
        self._live()
        return await self._cluster.latest_event(about, uid=uid)

    def watch(self, kind, *, namespace, labels, resource_version):
        return self._cluster.watch(kind, namespace=namespace, labels=labels, resource_version=resource_version)

    async def _write(self, verb, manifest, call):
        async with self._turn:
            self._live()
            try:
                answer = await call()
            finally:
                self.writes.append(f"{verb} {manifest['kind']} {manifest['metadata']['name']}")
            self._live()
            return answer

    def _live(self) -> None:
        if self.is_dead:
            raise Killed

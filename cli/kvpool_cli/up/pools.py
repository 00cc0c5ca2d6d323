"""The pools of this process as they are now: read from the cluster and the routers, and told to other terminals."""

import asyncio
import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kvpool_api.labels import engine_selector
from kvpool_api.pool import InferencePool
from kvpool_api.validation import Admission, Invalid
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.local.images import ImageTable
from kvpool_operator.cluster.seam import Manifest, Ref
from kvpool_operator.plan.differences import differences

from kvpool_cli.engine_pods import engine_pods
from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.router_facts import RouterFacts, read_router
from kvpool_cli.runs import RunFolder, RunRecord, process_start
from kvpool_cli.up.doors import Door, find_door
from kvpool_cli.view import PoolView, view

FIELD_MANAGER = "kvpool-up"
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and with what pools run. Pool n answers on `port` + 2n, its router's admin endpoint one above."""

    admission: Admission
    images: ImageTable
    engine: str
    manifest: str
    port: int
    run_folder: Path


@dataclass(slots=True)
class LocalPool:
    """One pool that was applied."""

    pool: InferencePool
    folder: RunFolder
    door: Door = field(default_factory=Door)

    @property
    def ref(self) -> Ref:
        metadata = self.pool.metadata
        return Ref(seam.POOL, metadata.namespace, metadata.name)


@dataclass(slots=True)
class LocalPools:
    """The pools of one file. The operator steers them; here they are applied, looked at, and told of."""

    cluster: LocalCluster
    http: aiohttp.ClientSession
    setting: Setting
    pools: list[LocalPool] = field(default_factory=list)

    async def apply(self, manifests: Sequence[Manifest]) -> None:
        """The first time: from here on these are the pools."""
        for manifest in manifests:
            pool = await self._applied(manifest)
            self.pools.append(LocalPool(pool, RunFolder(self.setting.run_folder, pool.metadata.name)))

    async def change(self, manifests: Sequence[Manifest]) -> list[str]:
        """Applies the file anew; what became different in each pool, for people.

        Raises UserError, and nothing is applied, where other pools are named than run, or a field may not change.
        """
        asked = {_name(manifest): manifest for manifest in manifests}
        running = {(local.ref.namespace, local.ref.name): local for local in self.pools}
        if asked.keys() != running.keys():
            told = _other_pools({name for _, name in asked}, {name for _, name in running})
            raise UserError(f"{self.setting.manifest}: {told}")
        before = {name: await self.cluster.get(local.ref) for name, local in running.items()}
        for name, manifest in asked.items():
            self._must_be_admitted(manifest, before[name])
        return [line for name in asked for line in await self._changed(running[name], asked[name], before[name])]

    def _must_be_admitted(self, manifest: Manifest, old: Manifest) -> None:
        try:
            self.setting.admission.admit(manifest, old)
        except Invalid as invalid:
            raise UserError(f"{self.setting.manifest}: {invalid}") from None

    async def _changed(self, local: LocalPool, manifest: Manifest, old: Manifest) -> list[str]:
        local.pool = await self._applied(manifest)
        if local.door.url:
            local.folder.write_record(self._record(local), local.door.token)
        now = await self.cluster.get(local.ref)
        return [f"{local.ref.name}: {found}" for found in differences(old["spec"], now["spec"])]

    async def views(self) -> list[PoolView]:
        """Each pool as it is now; what other terminals read is renewed on the way."""
        return [await self._view(local) for local in self.pools]

    async def until_ready(self, timeout_s: float) -> None:
        """Raises UserError with the cause when a pool is not Ready in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while waiting := [f"{found.name}: {found.why}" for found in await self.views() if not found.ready]:
            if asyncio.get_running_loop().time() > deadline:
                raise UserError(f"not ready after {timeout_s:g} s: {'; '.join(waiting)}", exit_code=FAILED)
            await asyncio.sleep(POLL_S)

    async def engine_urls(self, local: LocalPool) -> list[str]:
        """Where each engine of the pool answers itself, past the router."""
        facts = await self._router_facts(local)
        return [] if facts.state is None else sorted({worker.url for worker in facts.state.workers})

    async def _applied(self, manifest: Manifest) -> InferencePool:
        return InferencePool.model_validate(await self.cluster.apply(manifest, manager=FIELD_MANAGER, force=True))

    async def _view(self, local: LocalPool) -> PoolView:
        local.pool = InferencePool.model_validate(await self.cluster.get(local.ref))
        if not local.door.url and (door := await find_door(self.cluster, local.ref)) is not None:
            local.door = door
            local.folder.write_record(self._record(local), door.token)
        labels = engine_selector(local.ref.name)
        pods = engine_pods((await self.cluster.list(seam.POD, namespace=local.ref.namespace, labels=labels)).items)
        local.folder.write_seen(local.pool, pods)
        return view(local.pool, await self._router_facts(local), pods, local.door.url)

    async def _router_facts(self, local: LocalPool) -> RouterFacts:
        door = local.door
        return await read_router(self.http, door.admin_url, door.token) if door.admin_url else RouterFacts()

    def _record(self, local: LocalPool) -> RunRecord:
        return RunRecord(
            pool=local.ref.name,
            namespace=local.ref.namespace,
            manifest=self.setting.manifest,
            engine=self.setting.engine,
            pid=os.getpid(),
            pid_started=process_start(os.getpid()) or "",
            url=local.door.url,
            admin_url=local.door.admin_url,
            model=local.pool.spec.model.name,
            block_tokens=local.pool.spec.engine.block_size,
        )


def _name(manifest: Manifest) -> tuple[str, str]:
    """Namespace and name."""
    metadata = InferencePool.model_validate(manifest).metadata
    return metadata.namespace, metadata.name


def _other_pools(asked: Set[str], running: Set[str]) -> str:
    news = [f"{', '.join(sorted(asked - running))} would be new"] if asked - running else []
    gone = [f"{', '.join(sorted(running - asked))} would go"] if running - asked else []
    told = "; ".join(news + gone) or "a namespace differs"
    return f"pools cannot come or go while `kvpool up` runs ({told}): end it and start it again"

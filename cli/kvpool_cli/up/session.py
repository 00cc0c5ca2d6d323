"""Pools that run in this process tree: a local cluster, the operator's loop over it, and the pools applied to it."""

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kvpool_api.labels import admin_secret_name, engine_selector
from kvpool_api.pool import InferencePool
from kvpool_api.validation import Admission
from kvpool_api.wire import ADMIN_PORT_NAME, HTTP_PORT_NAME
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.local.errors import LocalClusterError
from kvpool_operator.cluster.local.images import ImageTable
from kvpool_operator.cluster.seam import Manifest, NotFound, Ref
from kvpool_operator.loop import operate
from kvpool_operator.settings import Settings

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.router_facts import RouterFacts, read_router
from kvpool_cli.runs import RunFolder, RunRecord, process_start
from kvpool_cli.up.pods import pod_states
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
    url: str = ""
    admin_url: str = ""
    token: str = ""

    @property
    def ref(self) -> Ref:
        metadata = self.pool.metadata
        return Ref(seam.POOL, metadata.namespace, metadata.name)


@dataclass(slots=True)
class LocalPools:
    """The running pools. Everything here is read from the cluster and the routers; nothing is steered."""

    cluster: LocalCluster
    http: aiohttp.ClientSession
    setting: Setting
    pools: list[LocalPool] = field(default_factory=list)

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
        facts = await read_router(self.http, local.admin_url, local.token)
        return [] if facts.state is None else sorted({worker.url for worker in facts.state.workers})

    async def _view(self, local: LocalPool) -> PoolView:
        await self._find_router(local)
        local.pool = InferencePool.model_validate(await self.cluster.get(local.ref))
        local.folder.write_pool(local.pool)
        engines = await self.cluster.list(
            seam.POD, namespace=local.ref.namespace, labels=engine_selector(local.ref.name)
        )
        facts = await read_router(self.http, local.admin_url, local.token) if local.admin_url else RouterFacts()
        return view(local.pool, facts, pod_states(engines.items), local.url)

    async def _find_router(self, local: LocalPool) -> None:
        """Records where the pool answers, once the operator has made its router."""
        if local.url:
            return
        namespace, service = local.ref.namespace, local.ref.name
        http = self.cluster.address_of(namespace, service, HTTP_PORT_NAME)
        admin = self.cluster.address_of(namespace, service, ADMIN_PORT_NAME)
        token = await self._token(local)
        if http is None or admin is None or token is None:
            return
        local.url, local.admin_url, local.token = _url(http), _url(admin), token
        local.folder.write_record(self._record(local), token)

    async def _token(self, local: LocalPool) -> str | None:
        try:
            secret = await self.cluster.get(Ref(seam.SECRET, local.ref.namespace, admin_secret_name(local.ref.name)))
        except NotFound:
            return None
        data = secret.get("data")
        encoded = data.get("token") if isinstance(data, dict) else None
        return base64.b64decode(encoded).decode() if isinstance(encoded, str) else None

    def _record(self, local: LocalPool) -> RunRecord:
        return RunRecord(
            pool=local.ref.name,
            namespace=local.ref.namespace,
            manifest=self.setting.manifest,
            engine=self.setting.engine,
            pid=os.getpid(),
            pid_started=process_start(os.getpid()) or "",
            url=local.url,
            admin_url=local.admin_url,
            model=local.pool.spec.model.name,
            block_tokens=local.pool.spec.engine.block_size,
        )


@asynccontextmanager
async def running_pools(manifests: Sequence[Manifest], setting: Setting) -> AsyncIterator[LocalPools]:
    """Runs the pools until the block ends; then every process ends. Raises UserError for what the machine refuses."""
    names = [InferencePool.model_validate(manifest).metadata.name for manifest in manifests]
    failure: Exception | None = None
    try:
        async with (
            _cluster(setting, names[0]) as cluster,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http,
            _operating(cluster, RunFolder(setting.run_folder, names[0]).logs / "operator.log"),
        ):
            try:
                yield await _applied(LocalPools(cluster, http, setting), manifests)
            except Exception as error:  # raised below: the cluster's task group would wrap it
                failure = error
    except LocalClusterError as error:
        raise UserError(str(error), exit_code=FAILED) from None
    finally:
        for name in names:
            RunFolder(setting.run_folder, name).clear(os.getpid())
    if failure is not None:
        raise failure


def _cluster(setting: Setting, first_pool: str) -> LocalCluster:
    """One cluster for all pools of a file; its files stand in the first one's folder."""
    return LocalCluster(
        setting.images,
        run_dir=setting.run_folder / first_pool,
        router_port=setting.port,
        admit=setting.admission.admit,
        environment=os.environ,
    )


@asynccontextmanager
async def _operating(cluster: LocalCluster, log: Path) -> AsyncIterator[None]:
    with _written_to(log):
        operator = asyncio.create_task(operate(cluster, Settings(), lambda pool: _door(cluster, pool)))
        try:
            yield
        finally:
            operator.cancel()
            await asyncio.gather(operator, return_exceptions=True)


@contextmanager
def _written_to(log: Path) -> Iterator[None]:
    """What the operator logs stands beside the logs of its Pods, and not between the lines of the table."""
    logger, handler = logging.getLogger("kvpool_operator"), logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.level, logger.propagate = before


def _door(cluster: LocalCluster, pool: InferencePool) -> str | None:
    address = cluster.address_of(pool.metadata.namespace, pool.metadata.name, HTTP_PORT_NAME)
    return None if address is None else _url(address)


async def _applied(pools: LocalPools, manifests: Sequence[Manifest]) -> LocalPools:
    for manifest in manifests:
        applied = await pools.cluster.apply(manifest, manager=FIELD_MANAGER, force=True)
        pool = InferencePool.model_validate(applied)
        pools.pools.append(LocalPool(pool, RunFolder(pools.setting.run_folder, pool.metadata.name)))
    return pools


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://{host}:{port}"

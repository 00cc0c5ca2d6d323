"""How long pools live: their names are held, a local cluster runs with the operator over it, and all of it ends."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
from kvpool_api.pool import InferencePool
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.local.errors import LocalClusterError
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.loop import operate
from kvpool_operator.settings import Settings

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.ports import require_free
from kvpool_cli.run_lock import held
from kvpool_cli.runs import RunFolder
from kvpool_cli.up.doors import public_url
from kvpool_cli.up.pools import LocalPools, Setting


@asynccontextmanager
async def running_pools(manifests: Sequence[Manifest], setting: Setting) -> AsyncIterator[LocalPools]:
    """Runs the pools until the block ends; then every process ends.

    Raises UserError for what the machine refuses, and where another process runs one of these pools: then none starts.
    """
    names = [InferencePool.model_validate(manifest).metadata.name for manifest in manifests]
    folders = [RunFolder(setting.run_folder, name) for name in names]
    with held(folders):
        require_free(setting.port, names)
        try:
            async with _started(setting, folders[0]) as pools:
                await pools.apply(manifests)
                yield pools
        finally:
            for folder in folders:
                folder.clear(os.getpid())


@asynccontextmanager
async def _started(setting: Setting, first: RunFolder) -> AsyncIterator[LocalPools]:
    """One cluster for all pools of a file; its files stand in the first one's folder."""
    cluster = LocalCluster(
        setting.images,
        run_dir=first.path,
        router_port=setting.port,
        admit=setting.admission.admit,
        environment=os.environ,
    )
    failure: Exception | None = None
    try:
        async with (
            cluster,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http,
            _operating(cluster, first.logs / "operator.log"),
        ):
            try:
                yield LocalPools(cluster, http, setting)
            except Exception as error:  # raised below: the cluster's task group would wrap it
                failure = error
    except LocalClusterError as error:
        raise UserError(str(error), exit_code=FAILED) from None
    if failure is not None:
        raise failure


@asynccontextmanager
async def _operating(cluster: LocalCluster, log: Path) -> AsyncIterator[None]:
    with _written_to(log):
        operator = asyncio.create_task(operate(cluster, Settings(), lambda pool: public_url(cluster, pool)))
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

"""A pool in this very process (its engines and router are child processes), for tests that change it while it runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from kvpool_api.crd import custom_resource_definition
from kvpool_api.labels import KV_EVENTS_ENDPOINTS, engine_selector
from kvpool_api.validation import Admission
from kvpool_api.wire import RouterState, WorkerState
from kvpool_cli.router_facts import read_router
from kvpool_cli.up.engines import programs
from kvpool_cli.up.pools import FIELD_MANAGER, LocalPools, Setting
from kvpool_cli.up.session import running_pools
from kvpool_operator.cluster import seam
from up_process import MODEL, free_port


@dataclass
class PoolHere:
    """One running pool and what can be done to it."""

    local: LocalPools
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.local.pools[0].door.url

    async def apply(self, manifest) -> None:
        """What `kubectl apply` of a changed manifest is to a cluster."""
        await self.local.cluster.apply(in_default(manifest), manager=FIELD_MANAGER, force=True)

    async def engines(self) -> list[str]:
        """Names of the engine Pods that are not on their way out."""
        found = await self.local.cluster.list(
            seam.POD, namespace="default", labels=engine_selector(self.local.pools[0].ref.name)
        )
        return sorted(str(pod["metadata"]["name"]) for pod in found.items if "deletionTimestamp" not in pod["metadata"])

    async def move_events(self, pod: str, endpoints: str) -> None:
        """Lets the router look for the Pod's events elsewhere."""
        metadata = {"name": pod, "namespace": "default", "annotations": {KV_EVENTS_ENDPOINTS: endpoints}}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        await self.local.cluster.apply(manifest, manager="test", force=True)

    async def state(self) -> RouterState:
        pool = self.local.pools[0]
        facts = await read_router(self.http, pool.door.admin_url, pool.door.token)
        assert facts.state is not None, facts.trouble
        return facts.state

    async def worker(self, pod: str) -> WorkerState:
        return next(worker for worker in (await self.state()).workers if worker.pod == pod)

    async def is_ready(self) -> bool:
        return all(view.ready for view in await self.local.views())

    async def stream(self, prompt, tokens: int) -> str:
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        async with self.http.post(f"{self.url}/v1/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.read()).decode()


def in_default(manifest):
    return {**manifest, "metadata": {"namespace": "default", **manifest["metadata"]}}


@asynccontextmanager
async def pool_here(folder: Path, manifest) -> AsyncIterator[PoolHere]:
    admission = Admission(custom_resource_definition())
    setting = Setting(admission, programs("sim", None, []), "sim", "test", free_port(25_000), folder)
    async with running_pools([in_default(manifest)], setting) as local, aiohttp.ClientSession() as http:
        await local.until_ready(60)
        yield PoolHere(local, http)

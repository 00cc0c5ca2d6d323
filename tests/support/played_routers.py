"""Routers of a played world, over HTTP: for an operator that is a process of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web
from kvpool_api.wire import ROUTER_ADMIN_PORT
from kvpool_operator.cluster.seam import ClusterError
from played_world import PlayedWorld

STEP_S = 0.05


class Life:
    """Kubelets of these worlds."""

    def __init__(self) -> None:
        self._goes_on = True

    def hold_still(self) -> None:
        """From now on kubelets do nothing; routers answer still."""
        self._goes_on = False

    async def of(self, world: PlayedWorld, step_s: float) -> None:
        while self._goes_on:
            with suppress(ClusterError):  # the API server is in trouble, or the pool is not there yet
                await world.step()
            await asyncio.sleep(step_s)


@asynccontextmanager
async def played(*worlds: PlayedWorld, step_s: float = STEP_S) -> AsyncIterator[Life]:
    """Kubelets act, and routers answer at each world's own address, while the block lasts. A broken bound fails it."""
    life = Life()
    async with asyncio.TaskGroup() as tasks:
        runners = [await _served(world) for world in worlds]
        kubelets = [tasks.create_task(life.of(world, step_s)) for world in worlds]
        try:
            yield life
        finally:
            for kubelet in kubelets:
                kubelet.cancel()
            for runner in runners:
                await runner.cleanup()


async def _served(world: PlayedWorld) -> web.AppRunner:
    async def state(request: web.Request) -> web.Response:
        told = await world.router_state()
        return web.Response(text=told.model_dump_json(by_alias=True), content_type="application/json")

    app = web.Application()
    app.router.add_get("/state", state)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, world.router_address, ROUTER_ADMIN_PORT).start()
    return runner

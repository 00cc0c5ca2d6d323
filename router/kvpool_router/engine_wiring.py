"""Asks each engine process once where it publishes its KV events, as soon as it serves."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

import aiohttp

from kvpool_router.events.wiring import PATH, SILENT, Source, sources_of
from kvpool_router.tasks import stop
from kvpool_router.workers import Incarnation, Worker, WorkerId

LOG = logging.getLogger(__name__)

TIMEOUT_S = 2.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between two questions to an engine that gives no answer; doubles from the first on."""


class _Process(NamedTuple):
    """An engine process behind one address."""

    url: str
    incarnation: Incarnation


class EngineWiring:
    """The answer holds for as long as the process lives. An engine whose release has no such page is asked no more."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        told: Callable[[WorkerId, Source], None],
        *,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._session = session
        self._told = told
        self._first_pause_s = first_pause_s
        self._ranks: dict[_Process, tuple[WorkerId, ...]] = {}
        self._asking: dict[_Process, asyncio.Task[None]] = {}

    def follow(self, workers: tuple[Worker, ...]) -> None:
        """Asks for these, and forgets all others. One question serves all ranks of a process."""
        ranks: dict[_Process, tuple[WorkerId, ...]] = {}
        for worker in workers:
            if worker.ready and worker.events is not None:
                process = _Process(worker.url, worker.incarnation)
                ranks[process] = (*ranks.get(process, ()), worker.id)
        self._ranks = ranks
        for gone in self._asking.keys() - ranks.keys():
            self._asking.pop(gone).cancel()
        for process in ranks.keys() - self._asking.keys():
            self._asking[process] = asyncio.create_task(self._ask(process), name=f"wiring {process.url}")

    async def close(self) -> None:
        await stop(*self._asking.values())

    async def _ask(self, process: _Process) -> None:
        pause_s = self._first_pause_s
        while True:
            try:
                answer = await self._answer(process.url)
                break
            except (aiohttp.ClientError, TimeoutError) as error:
                LOG.debug("%s%s could not be read: %s", process.url, PATH, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        sources = None if answer is None else sources_of(answer)
        if sources is None:
            LOG.info("%s does not tell where it publishes KV events; its wiring stays unchecked", process.url)
            return
        for worker in self._ranks[process]:
            self._told(worker, sources.get(worker.dp_rank, SILENT))

    async def _answer(self, url: str) -> bytes | None:
        """None where the engine has no such page; every other failure may pass."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with self._session.get(f"{url}{PATH}", timeout=timeout) as response:
            if response.status in (403, 404, 405, 501):
                return None
            response.raise_for_status()
            return await response.read()

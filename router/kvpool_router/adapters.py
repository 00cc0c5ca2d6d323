"""Which LoRA adapters engines serve, by their own lists of models."""

import asyncio
import logging
import math
from collections.abc import Callable, Collection
from typing import Protocol

import aiohttp

from kvpool_router.requests.models import adapter_names
from kvpool_router.requests.paths import MODELS
from kvpool_router.tasks import stop
from kvpool_router.workers import Roster

LOG = logging.getLogger(__name__)

TIMEOUT_S = 2.0
BETWEEN_MISSES_S = 2.0
"""Names that nobody serves cost engines one question in so long a time, however many are asked for."""
TRUE_FOR_S = 30.0
"""An adapter that is in use is looked for anew after so long: engines come, load and unload."""


class AdapterDirectory(Protocol):
    """What the door asks about names that are not the pool's own."""

    async def engines(self, name: str) -> Collection[str]:
        """Addresses of the engines that serve an adapter of this name; empty where there is none."""
        ...

    def names(self) -> Collection[str]:
        """All adapters known now."""
        ...

    def all_told(self) -> bool:
        """Whether a name that none has told is nobody's: there are engines that take requests, and each has told."""
        ...


class Adapters:
    """Asks engines only when a request names a model that is not the pool's own: pools without adapters pay nothing.

    An engine that does not answer keeps what it said last, for as long as it takes requests.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: Callable[[], float], roster: Roster) -> None:
        self._session = session
        self._clock = clock
        self._roster = roster
        self._served: dict[str, frozenset[str]] = {}
        """Adapters by address, of the engines that have told theirs."""
        self._asked_at = -math.inf
        self._asking: asyncio.Task[None] | None = None

    async def engines(self, name: str) -> Collection[str]:
        found = self._serving(name)
        if self._asking is None:
            if self._clock() - self._asked_at < (TRUE_FOR_S if found else BETWEEN_MISSES_S):
                return found
            self._asking = asyncio.create_task(self._ask_all(), name="adapters")
        if not found:
            await asyncio.shield(self._asking)
            found = self._serving(name)
        return found

    def names(self) -> Collection[str]:
        return sorted(frozenset[str]().union(*self._served.values()))

    def all_told(self) -> bool:
        accepting = self._roster.accepting()
        return bool(accepting) and all(worker.url in self._served for worker in accepting)

    async def close(self) -> None:
        if self._asking is not None:
            await stop(self._asking)

    def _serving(self, name: str) -> list[str]:
        return [url for url, adapters in self._served.items() if name in adapters]

    async def _ask_all(self) -> None:
        urls = {worker.url for worker in self._roster.accepting()}
        try:
            said = await asyncio.gather(*map(self._ask, urls))
            told = {url: self._served.get(url) if own is None else own for url, own in said}
            self._served = {url: own for url, own in told.items() if own is not None}
        finally:
            self._asked_at = self._clock()
            self._asking = None

    async def _ask(self, url: str) -> tuple[str, frozenset[str] | None]:
        """The engine's adapters: none where it refuses to tell (it wants a key), None where it does not answer now."""
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            async with self._session.get(url + MODELS, timeout=timeout) as answer:
                if 400 <= answer.status < 500:
                    LOG.info("%s%s answered %d, so its adapters stay unknown", url, MODELS, answer.status)
                    return url, frozenset()
                answer.raise_for_status()
                return url, adapter_names(await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            LOG.info("%s%s could not be read for its adapters: %s", url, MODELS, error)
            return url, None

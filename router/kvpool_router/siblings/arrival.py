"""How a router comes by its map at its start: from a sibling, or else from the engines' own replay."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence

from kvpool_router.events.plane import EventPlane
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.siblings.asking import Ask
from kvpool_router.siblings.frames import Refused
from kvpool_router.siblings.snapshot import SNAPSHOT, Loading
from kvpool_router.workers import RouterPod

LOG = logging.getLogger(__name__)


class Entrance:
    """Where requests wait while this router could know where their prompts are cached, but does not yet."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def close(self) -> None:
        self._opened.clear()

    def open(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        """Returns once it is open."""
        await self._opened.wait()


class Arrival:
    """Takes the map of the first sibling that has one, before any worker is followed.

    Whatever goes wrong, nothing of it stays in the map, and the engines' events are replayed from their beginning.
    """

    def __init__(
        self, ask: Ask, cache: CacheMap, plane: EventPlane, clock: Callable[[], float], timeout_s: float
    ) -> None:
        self.told = "The pool's routers are not known yet."
        """How this router came by its map, in a sentence."""
        self._ask = ask
        self._cache = cache
        self._plane = plane
        self._clock = clock
        self._timeout_s = timeout_s

    async def take(self, siblings: Sequence[RouterPod]) -> None:
        """Returns once there is a map to go on from, or none to be had in time."""
        begun = self._clock()
        self.told = "Taking a sibling's map."
        refusals: dict[str, Refused] = {}
        for sibling in random.sample(siblings, len(siblings)):
            refused = await self._taken(sibling, begun)
            if refused is None:
                LOG.info("%s", self.told)
                return
            refusals[sibling.name] = refused
        self.told = f"Began with the engines' own replay: {_why(refusals)}."
        is_trouble = any(each.is_trouble for each in refusals.values())
        LOG.log(logging.WARNING if is_trouble else logging.INFO, "%s", self.told)

    async def _taken(self, sibling: RouterPod, begun: float) -> Refused | None:
        """Why not, or None once its map is loaded."""
        loading = Loading(self._cache)
        try:
            async with asyncio.timeout(max(0.0, begun + self._timeout_s - self._clock())):
                async with self._ask.payloads(sibling, SNAPSHOT) as payloads:
                    async for payload in payloads:
                        loading.take(payload)
                        await asyncio.sleep(0)
            if not loading.is_whole:
                raise Refused("it ended before its end")
        except TimeoutError:
            loading.undo()
            return Refused(f"it did not end within {self._timeout_s:g} s")
        except Refused as error:
            loading.undo()
            return error
        except BaseException:
            loading.undo()
            raise
        self._plane.adopt(loading.marks)
        self.told = (
            f"Began with the map of {sibling.name}: {len(loading.marks)} workers"
            f" in {1000 * (self._clock() - begun):.0f} ms."
        )
        return None


def _why(refusals: Mapping[str, Refused]) -> str:
    """That there was no map to be had, as a clause."""
    if not refusals:
        return "no other router was there"
    is_trouble = any(each.is_trouble for each in refusals.values())
    begin = "no sibling's map could be taken" if is_trouble else "no router had a map yet"
    return f"{begin} ({'; '.join(f'{name}: {refused}' for name, refused in refusals.items())})"

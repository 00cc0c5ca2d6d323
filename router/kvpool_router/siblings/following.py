"""Keeps this router's books up with what each sibling has under way."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from kvpool_router.siblings.asking import Ask
from kvpool_router.siblings.deeds import BOOKINGS, decoded
from kvpool_router.siblings.frames import Refused
from kvpool_router.siblings.ledger import Ledger
from kvpool_router.tasks import stop
from kvpool_router.workers import RouterPod

LOG = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
DEEDS_AT_ONCE = 16
"""Booked in one turn of the loop: each takes about a tenth of a millisecond."""


@dataclass(slots=True)
class Followed:
    """One sibling, as far as it is heard."""

    router: RouterPod
    ledger: Ledger
    trouble: str | None = "It has just been seen."
    """Why it is not heard; None while it is."""
    task: asyncio.Task[None] | None = None


class Siblings:
    """One stream a sibling; whatever is wrong with it shows here and stops nothing else."""

    def __init__(self, own_name: str, ask: Ask, ledger: Callable[[], Ledger], clock: Callable[[], float]) -> None:
        self._own_name = own_name
        self._ask = ask
        self._ledger = ledger
        self._clock = clock
        self._followed: dict[str, Followed] = {}

    @property
    def followed(self) -> Collection[Followed]:
        return self._followed.values()

    def among(self, routers: Collection[RouterPod]) -> tuple[RouterPod, ...]:
        """Without this router itself."""
        return tuple(each for each in routers if each.name != self._own_name)

    def follow(self, routers: Collection[RouterPod]) -> None:
        """Hears these routers and no others; who has moved is heard anew."""
        told = {each.name: each for each in self.among(routers)}
        for name, known in list(self._followed.items()):
            if told.get(name) != known.router:
                self._leave(self._followed.pop(name))
        for name, router in told.items():
            if name not in self._followed:
                followed = self._followed[name] = Followed(router, self._ledger())
                followed.task = asyncio.create_task(self._hear(followed), name=f"sibling {name}")

    async def close(self) -> None:
        tasks = [each.task for each in self._followed.values() if each.task is not None]
        await stop(*tasks)

    def _leave(self, known: Followed) -> None:
        if known.task is not None:
            known.task.cancel()
        known.ledger.close(self._clock())

    async def _hear(self, sibling: Followed) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._hear_out(sibling)
                trouble = "It has ended its stream."
            except (Refused, msgspec.MsgspecError) as error:
                trouble = f"Its bookings cannot be heard: {error}."
            if sibling.trouble is None:
                pause_s = FIRST_PAUSE_S
                LOG.info("sibling router %s is not heard any more: %s", sibling.router.name, trouble)
            sibling.ledger.close(self._clock())
            sibling.trouble = trouble
            await asyncio.sleep(pause_s * (1 - random.random() / 2))  # noqa: S311 - spreads attempts
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    async def _hear_out(self, sibling: Followed) -> None:
        async with self._ask.payloads(sibling.router, BOOKINGS) as payloads:
            async for payload in payloads:
                for number, deed in enumerate(decoded(payload), 1):
                    sibling.ledger.take(deed, self._clock())
                    if not number % DEEDS_AT_ONCE:
                        await asyncio.sleep(0)
                if sibling.trouble is not None:
                    sibling.trouble = None
                    LOG.info("hearing the bookings of sibling router %s", sibling.router.name)

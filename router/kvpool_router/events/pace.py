"""Keeps the application of events from holding the loop that proxies requests."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Pace:
    """Lets one slice of work run in each turn of the event loop, whoever asks, in order of arrival.

    Each slice is short, but many workers may replay at once: without a common turn their slices would follow each
    other within one turn of the loop, and requests would wait for all of them.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        async with self._turn:
            done = work()
            await asyncio.sleep(0)
        return done

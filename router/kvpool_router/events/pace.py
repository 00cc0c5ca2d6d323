"""Keeps the application of events from holding the loop that proxies requests."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STRETCH_S = 0.0005
"""Events are applied for so long, and for the slice that is under way then, before everybody else has a turn."""


class Pace:
    """Lets slices of work run one after the other for a short stretch, whoever asks, in order of arrival.

    Each slice is short, but many workers may replay at once: without a common stretch their slices would follow each
    other within one turn of the event loop, and requests would wait for all of them. A turn for each slice, however,
    would cost a batch of a few blocks as much again as its own work.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slot = asyncio.Lock()
        self._ends = float("-inf")

    async def run(self, work: Callable[[], T]) -> T:
        async with self._slot:
            begun = self._clock()
            if begun >= self._ends:
                self._ends = begun + STRETCH_S
            done = work()
            if self._clock() >= self._ends:
                await asyncio.sleep(0)
                self._ends = float("-inf")
        return done

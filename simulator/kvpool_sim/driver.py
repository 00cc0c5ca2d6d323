"""Runs one engine core in real time: steps are slept to their modelled end, tokens go to whoever waits for them."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from kvpool_sim.core.engine import EngineCore
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.publisher import Publisher

_KEPT_LATENESSES = 20_000


@dataclass(slots=True, eq=False)
class Running:
    """A request in the engine and the mailbox of who waits for it."""

    request: EngineRequest
    taken: int = 0
    """Output tokens that the reader has had."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        self._wake.set()

    async def next_tokens(self) -> list[int]:
        """Output tokens since the last call; empty once the request has ended and all were had."""
        request = self.request
        while request.output_tokens == self.taken and request.finished is None:
            self._wake.clear()
            await self._wake.wait()
        tokens = request.tokens[request.prompt_tokens + self.taken :].tolist()
        self.taken += len(tokens)
        return tokens


class Driver:
    """One core on the wall clock.

    Each step ends at the modelled time after the one before, so a late wake-up delays what is seen of one step but not
    the engine. How late each wake-up was is kept: where it is not small, the machine and not the model was measured.
    """

    def __init__(self, core: EngineCore, publisher: Publisher | None, speed: float) -> None:
        self.core = core
        self.publisher = publisher
        self._speed = speed
        self._running: dict[EngineRequest, Running] = {}
        self._work = asyncio.Event()
        self.latenesses_s: deque[float] = deque(maxlen=_KEPT_LATENESSES)

    def submit(self, request: EngineRequest) -> Running:
        running = self._running[request] = Running(request)
        self.core.submit(request)
        self._work.set()
        return running

    def abort(self, running: Running) -> None:
        """The client is gone. A request that has ended already is left as it is."""
        self.core.abort(running.request)
        self._running.pop(running.request, None)

    def reset_cache(self) -> bool:
        """Forgets all cached blocks, if none is in use."""
        done = self.core.pool.reset()
        self._publish()
        return done

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def run(self) -> None:
        """Steps for ever."""
        ends = time.monotonic()
        while True:
            step = self.core.schedule()
            if step is None:
                self._publish()
                self._work.clear()
                await self._work.wait()
                ends = time.monotonic()
                continue
            ends += step.duration_s / self._speed
            await asyncio.sleep(max(0.0, ends - time.monotonic()))
            self.latenesses_s.append(time.monotonic() - ends)
            served = self.core.complete(step)
            self._publish()
            for request in served:
                self._tell(request)

    def _tell(self, request: EngineRequest) -> None:
        running = self._running.get(request)
        if running is not None:
            running.notify()
            if request.finished is not None:
                del self._running[request]

    def _publish(self) -> None:
        events = self.core.take_events()
        if events and self.publisher is not None:
            self.publisher.publish(time.time(), events)

"""Runs one engine core in real time: steps are slept to their modelled end, tokens go to whoever waits for them."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from kvpool_sim.core.engine import EngineCore
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.publisher import Publisher

_KEPT_LATENESSES = 20_000


class News(NamedTuple):
    """New output tokens of one of an answer's requests: those from `begin` to before `end`."""

    choice: int
    begin: int
    end: int


class Running:
    """The requests of one answer in the engine, and the mailbox of who waits for them.

    One mailbox for all of them, so that the prompts of a batch are told as they advance and not one after another, and
    a step wakes its reader once.
    """

    def __init__(self, requests: Sequence[EngineRequest]) -> None:
        self.requests = requests
        self._taken = [0] * len(requests)
        self._unfinished = len(requests)
        self._only_end = False
        self._waiting: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    def notify(self, request: EngineRequest) -> None:
        """A request of these has a new token or has ended."""
        self._unfinished -= request.finished is not None
        waiting = self._waiting
        if waiting is not None and not waiting.done() and not (self._only_end and self._unfinished):
            waiting.set_result(None)

    async def news(self) -> list[News]:
        """What is new since the last call; empty once all requests have ended and all was told."""
        taken = self._taken
        while True:
            found = []
            for choice, request in enumerate(self.requests):
                end = request.output_tokens
                if end > taken[choice]:
                    found.append(News(choice, taken[choice], end))
                    taken[choice] = end
            if found or not self._unfinished:
                return found
            self._waiting = self._loop.create_future()
            await self._waiting

    async def ended(self) -> None:
        """Returns when all requests have ended; wakes for nothing else."""
        self._only_end = True
        while self._unfinished:
            self._waiting = self._loop.create_future()
            await self._waiting


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
        self._awake = asyncio.Event()
        self._awake.set()
        self.latenesses_s: deque[float] = deque(maxlen=_KEPT_LATENESSES)

    def submit(self, requests: Sequence[EngineRequest]) -> Running:
        """Queues the requests of one answer."""
        running = Running(requests)
        for request in requests:
            self._running[request] = running
            self.core.submit(request)
        self._work.set()
        return running

    def abort(self, running: Running) -> None:
        """The client is gone. Requests that have ended already are left as they are."""
        for request in running.requests:
            self.core.abort(request)
            self._running.pop(request, None)

    def reset_cache(self) -> bool:
        """Forgets all cached blocks, if none is in use. Like vLLM, it is told with the events of the next step."""
        return self.core.pool.reset()

    def sleep(self) -> bool:
        """Computes nothing until `wake_up`. The cache goes as by `reset_cache`, and is told as late."""
        self._awake.clear()
        return self.reset_cache()

    def wake_up(self) -> None:
        self._awake.set()

    @property
    def asleep(self) -> bool:
        return not self._awake.is_set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def run(self) -> None:
        """Steps for ever."""
        ends = time.monotonic()
        while True:
            await self._awake.wait()
            step = self.core.schedule()
            if step is None:
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
            running.notify(request)
            if request.finished is not None:
                del self._running[request]

    def _publish(self) -> None:
        events = self.core.take_events()
        if events and self.publisher is not None:
            self.publisher.publish(time.time(), events)

"""One container: started, probed, restarted with back-off, ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kvpool_operator.cluster.local.container_status import ContainerStatus, running, terminated, waiting
from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.probes import Probe, Probes, first_success, verdicts
from kvpool_operator.cluster.local.process import Exit, Process
from kvpool_operator.cluster.seam import Manifest

LOG = logging.getLogger(__name__)

BACK_OFF_S = (0.0, 0.2, 1.0, 5.0, 10.0, 20.0)
"""Waits before the first, second … restart: a kubelet's pattern, but quicker, for somebody sits before this machine."""
WELL_AFTER_S = 60.0
"""A process that lived so long clears the back-off."""
START_RETRY_S = 0.2
"""What could not start (a ConfigMap that is not there yet) is tried again this often."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that was just started, and how to ask it whether it is well."""

    process: Process
    probes: Probes


class BackOff:
    """How long to wait before the next start: nothing at first, then longer; forgotten after a minute of life."""

    def __init__(self) -> None:
        self._ends = 0

    def after(self, lived_s: float) -> float:
        if lived_s >= WELL_AFTER_S:
            self._ends = 0
        delay = BACK_OFF_S[min(self._ends, len(BACK_OFF_S) - 1)]
        self._ends += 1
        return delay


class Container:
    """Runs until told to end, or until its restart policy says that it is over; calls `changed` at each new state."""

    def __init__(
        self,
        status: ContainerStatus,
        launch: Callable[[], Awaitable[Launched]],
        *,
        restart_policy: str,
        grace_s: float,
        changed: Callable[[], None],
        now: Callable[[], str],
    ) -> None:
        self.status = status
        self._launch = launch
        self._restart_policy = restart_policy
        self._grace_s = grace_s
        self._changed = changed
        self._now = now
        self._process: Process | None = None
        self._halted = asyncio.Event()

    async def run(self) -> None:
        back_off = BackOff()
        loop = asyncio.get_running_loop()
        while not self._halted.is_set():
            try:
                launched = await self._launch()
            except StartFault as fault:
                await self._wait(fault.reason, str(fault), START_RETRY_S)
                continue
            began = loop.time()
            ended = await self._live(launched)
            if self._halted.is_set() or not self._restarts(ended):
                break
            delay = back_off.after(loop.time() - began)
            if delay:
                told = f"back-off {delay:g}s restarting failed container={self.status.name}"
                await self._wait("CrashLoopBackOff", told, delay)
        self.status.is_over = "terminated" in self.status.state
        self._changed()

    def halt(self) -> None:
        """No start any more; what runs goes on."""
        self._halted.set()

    async def end(self, grace_s: float) -> None:
        """End it for good: SIGTERM, and SIGKILL once the grace is over."""
        self.halt()
        if self._process is not None:
            await self._process.end(grace_s)

    def kill(self) -> None:
        self.halt()
        if self._process is not None:
            self._process.kill()

    async def _live(self, launched: Launched) -> Exit:
        self._process = process = launched.process
        since = self._now()
        status = self.status
        status.pid = process.pid
        if "terminated" in status.state or status.last_state:  # a process of this container has ended before
            status.restart_count += 1
        self._enter(running(since))
        try:
            if self._halted.is_set():
                process.kill()
            async with asyncio.TaskGroup() as tasks:
                health = tasks.create_task(self._follow_health(launched))
                ended = await process.wait()
                health.cancel()
        finally:
            process.kill()
            self._process = None
        status.started = status.ready = False
        status.ended_log = process.end_of_log()
        self._enter(terminated(ended, since=since, now=self._now(), last_words=process.last_words()))
        return ended

    async def _follow_health(self, launched: Launched) -> None:
        process, probes = launched.process, launched.probes
        fault = await first_success(probes.startup) if probes.startup else None
        if fault is not None:
            await self._end_unwell(process, "startup", fault)
            return
        self.status.started, self.status.ready = True, probes.readiness is None
        self._changed()
        async with asyncio.TaskGroup() as tasks:
            if probes.readiness:
                tasks.create_task(self._follow_readiness(probes.readiness))
            if probes.liveness:
                tasks.create_task(self._follow_liveness(process, probes.liveness))

    async def _follow_readiness(self, probe: Probe) -> None:
        async for is_well, fault in verdicts(probe, is_well=False):
            if not is_well:
                LOG.warning("container %s is unready: %s", self.status.name, fault)
            self.status.ready = is_well
            self._changed()

    async def _follow_liveness(self, process: Process, probe: Probe) -> None:
        await asyncio.sleep(max(probe.initial_delay_s, probe.period_s))
        async for _, fault in verdicts(probe, is_well=True):
            await self._end_unwell(process, "liveness", fault)

    async def _end_unwell(self, process: Process, probe: str, fault: str) -> None:
        LOG.warning("container %s failed its %s probe and is restarted: %s", self.status.name, probe, fault)
        await process.end(self._grace_s)

    def _enter(self, state: Manifest) -> None:
        if "terminated" in self.status.state:
            self.status.last_state = self.status.state
        self.status.state = state
        self._changed()

    def _restarts(self, ended: Exit) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and ended.code != 0)

    async def _wait(self, reason: str, message: str, at_most_s: float) -> None:
        """Stay in a waiting state for some time, or until halted."""
        self._enter(waiting(reason, message))
        try:
            async with asyncio.timeout(at_most_s):
                await self._halted.wait()
        except TimeoutError:
            return

"""One worker's events from socket to map, for as long as the worker lives."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import zmq
import zmq.asyncio

from kvpool_router.events.follower import Follower, Rhythm
from kvpool_router.events.map_sink import MapSink, Observer, Tally
from kvpool_router.events.marks import Mark
from kvpool_router.events.pace import Pace
from kvpool_router.events.subscriber import Subscription
from kvpool_router.events.wiring import Source, contradiction, elsewhere
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.tasks import stop, until_first
from kvpool_router.workers import Worker

LOG = logging.getLogger(__name__)

FAULT_PAUSE_S = 5.0
"""Wait before a stream that failed in a way nobody foresaw is begun again."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams of a plane share."""

    cache_map: CacheMap
    context: zmq.asyncio.Context
    pace: Pace
    monotonic: Callable[[], float]
    wall_clock: Callable[[], float]
    rhythm: Rhythm
    observer: Observer


class WorkerStream:
    """Connects, follows until the connection is lost, takes the worker's credit away, connects again.

    After the rhythm's `conceal_s` without a connection predictions are worth more than a map that nobody can confirm,
    so credit is given back to them alone. The map is kept: the engine may turn out to be the same process, and by then
    it holds blocks that are older than what its buffer tells of.
    """

    def __init__(self, worker: Worker, around: Surroundings) -> None:
        self.worker = worker
        self.sink = MapSink(worker.id, around.cache_map, around.pace, around.wall_clock, around.observer)
        self.follower = Follower(self.sink, around.monotonic, around.rhythm)
        self.trouble: str | None = f"No connection to {worker.events} yet."
        """Why there is no connection; None while there is one."""
        self.miswired: str | None = None
        """Why these events are not this worker's; they are followed no more then."""
        self.source: Source | None = None
        """As the engine tells it; None before."""
        self._topic: bytes | None = None
        self._around = around
        self._concealing: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self.worker.events is not None:
            self._task = asyncio.create_task(self._run(self.worker.events), name=f"events {self.worker.id}")

    @property
    def hint(self) -> str | None:
        """Where the events may be, if they are not where they are looked for."""
        return elsewhere(self.source, self.worker.events, self.worker.replay)

    def wired(self, source: Source) -> None:
        """The engine has told where it publishes."""
        self.source = source
        self._compare()

    def adopt(self, mark: Mark) -> bool:
        """Goes on from a map that was made elsewhere; before `begin`. False if that is another process's map."""
        if (mark.pod_uid, mark.restart_count) != self.worker.incarnation or self.worker.events is None:
            return False
        self.sink.tally = Tally(mark.stored_blocks, mark.lack, mark.cleared)
        self.follower.adopt(mark.first, mark.applied, mark.digest)
        self._wait_to_conceal()
        return True

    def mark(self) -> Mark | None:
        """None while nothing is applied, or a batch only in part."""
        marks, tally = self.follower.marks, self.sink.tally
        digest = marks.last_digest
        if digest is None or not self.follower.between_batches:
            return None
        return Mark(
            *self.worker.incarnation,
            marks.first,
            marks.applied,
            digest,
            tally.stored_blocks,
            tally.lack,
            tally.cleared,
        )

    def cut(self) -> None:
        """From the return of this call on the map is left alone, whatever the task does until it has ended."""
        self.sink.detach()
        self._keep()
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        if self._task is not None:
            await stop(self._task)

    def _heard(self, topic: bytes) -> None:
        self._topic = topic
        self._compare()

    def _compare(self) -> None:
        """Blocks of another engine are no credit; predictions are."""
        found = contradiction(self.source, self._topic)
        if found is None or self.miswired is not None:
            return
        LOG.warning("%s", found, extra={"worker": self.worker.id})
        self.miswired = found
        self.follower.forget()
        self.sink.resume()
        self.cut()

    async def _run(self, address: str) -> None:
        while True:
            try:
                await self._one_connection(address)
            except zmq.ZMQError as error:
                self.trouble = f"The events address {address} cannot be used: {error}."
                await asyncio.sleep(FAULT_PAUSE_S)
            except Exception:
                LOG.exception("following KV events failed; beginning again", extra={"worker": self.worker.id})
                self._lost(f"The events of {address} could not be followed; see the router's log.")
                await asyncio.sleep(FAULT_PAUSE_S)

    async def _one_connection(self, address: str) -> None:
        around = self._around
        with Subscription(
            around.context,
            address,
            self.worker.replay,
            around.rhythm.silence_s,
            self.sink.count_foreign,
            self._heard,
        ) as subscription:
            subscription.connect()
            if not await subscription.established(self._hindered):
                await asyncio.sleep(around.rhythm.reconnect_s)
                return
            self._connected()
            try:
                await until_first(self.follower.follow(subscription), subscription.lost())
            finally:
                self._lost(f"The connection to {address} was lost; trying again.")

    def _hindered(self, trouble: str) -> None:
        """A loss is told until predictions count again."""
        if self._concealing is None:
            self.trouble = trouble

    def _connected(self) -> None:
        LOG.info("following the KV events of %s", self.worker.events, extra={"worker": self.worker.id})
        self.trouble = None
        self._keep()

    def _lost(self, trouble: str) -> None:
        if self.sink.detached:
            return
        LOG.warning("%s Its cached blocks count for nothing meanwhile.", trouble, extra={"worker": self.worker.id})
        self.sink.suspend()
        self.follower.facts.caught_up = False
        self.trouble = trouble
        self._keep()
        self._wait_to_conceal()

    def _wait_to_conceal(self) -> None:
        self._concealing = asyncio.get_running_loop().call_later(self._around.rhythm.conceal_s, self._conceal)

    def _keep(self) -> None:
        if self._concealing is not None:
            self._concealing.cancel()
            self._concealing = None

    def _conceal(self) -> None:
        self._concealing = None
        self.sink.conceal()

"""Membership from the Kubernetes API: the pool's Pods, listed once and watched from there."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from kvpool_router.membership.pods import Members, members_of
from kvpool_router.membership.pods_api import (
    ApiServer,
    Connection,
    Expired,
    PodList,
    PodsApi,
    Unusable,
    Versioned,
    WatchEvent,
)
from kvpool_router.membership.protocol import Snapshot

LOG = logging.getLogger(__name__)

SHORTEST_WATCH_S = 1.0
"""A watch that ends sooner without a word is a failure: asked again at once it would go round and round."""
LONGEST_WISH_S = 30.0
"""An API server that asks for more time than this is asked again all the same: engines come and go meanwhile."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait before the n-th attempt in a row, in seconds: doubled each time, and up to half of it less.

    Routers that lost the same API server must not all come back to it in the same moment.
    """

    first_s: float = 0.5
    most_s: float = 8.0
    jitter: Callable[[], float] = random.random

    def pause_s(self, failures: int) -> float:
        doubled = min(self.most_s, self.first_s * 2.0 ** min(failures, 16))
        return doubled * (1 - self.jitter() / 2)


@dataclass(slots=True)
class KnownPods:
    """The Pods as the API server has told them, up to a version of its."""

    version: str
    _pods: dict[str, Members] = field(default_factory=dict)

    @classmethod
    def listed(cls, listing: PodList) -> "KnownPods":
        """Raises Unusable for an item without a name or version."""
        known = cls(listing.metadata.resource_version)
        for pod in listing.items:
            known._pods[_versioned(pod).metadata.name] = members_of([pod])
        return known

    def take(self, event: WatchEvent) -> None:
        """Types of event that a later release may add change nothing but the version."""
        metadata = _versioned(event.object).metadata
        self.version = metadata.resource_version
        if event.type in ("ADDED", "MODIFIED"):
            self._pods[metadata.name] = members_of([event.object])
        elif event.type == "DELETED":
            self._pods.pop(metadata.name, None)

    @property
    def members(self) -> Members:
        workers = chain.from_iterable(pod.workers for pod in self._pods.values())
        routers = chain.from_iterable(pod.routers for pod in self._pods.values())
        left_out = chain.from_iterable(pod.left_out for pod in self._pods.values())
        return Members(
            tuple(sorted(workers, key=lambda worker: worker.id)),
            tuple(sorted(routers, key=lambda router: router.name)),
            tuple(sorted(left_out)),
        )


def _versioned(pod: object) -> Versioned:
    try:
        return msgspec.convert(pod, Versioned)
    except msgspec.ValidationError as error:
        raise Unusable(f"it sent a Pod without a name or version ({error})") from error


class KubeMembership:
    """Follows the pool's Pods by the router's own service account, so routing survives the operator's absence.

    list ── watch ── watch ── watch ── …        each watch ends after half a minute and goes on from the last version
      ▲        │
      └─ pause ┘                                any failure, or a version that has expired: all is listed anew

    Until the new list is there the last set stands; it, not the events, says which Pods are gone after a failure.
    """

    def __init__(self, api: PodsApi, back_off: BackOff | None = None) -> None:
        self._api = api
        self._back_off = back_off or BackOff()
        self._trouble: str | None = None
        self._failures = 0

    @property
    def server(self) -> ApiServer:
        return self._api.server

    @property
    def trouble(self) -> str | None:
        return self._trouble

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        last: Snapshot | None = None
        while True:
            wish_s = 0.0
            try:
                async with aclosing(self._followed()) as sets:
                    async for members in sets:
                        if members != last:
                            last = members
                            yield last
            except Expired as error:
                LOG.info("the pool's Pods are listed anew: %s", error)
            except Unusable as error:
                wish_s = error.retry_after_s
                self._report(self._told(error))
            await asyncio.sleep(max(min(wish_s, LONGEST_WISH_S), self._back_off.pause_s(self._failures)))
            self._failures += 1

    async def _followed(self) -> AsyncGenerator[Snapshot, None]:
        """The sets, from a list on for as long as nothing goes wrong. Raises Expired and Unusable."""
        async with self._api.connected() as connection:
            known = KnownPods.listed(await connection.list())
            yield known.members.snapshot
            while True:
                async with aclosing(self._watched(connection, known)) as sets:
                    async for members in sets:
                        yield members

    async def _watched(self, connection: Connection, known: KnownPods) -> AsyncGenerator[Snapshot, None]:
        """The sets of one watch, until it ends as it was asked to."""
        begun = time.monotonic()
        heard = False
        async with connection.watch(known.version) as events:
            self._report(_left_out(known.members))
            async for event in events:
                heard = True
                self._failures = 0
                known.take(event)
                members = known.members
                self._report(_left_out(members))
                yield members.snapshot
        if not heard and time.monotonic() - begun < SHORTEST_WATCH_S:
            raise Unusable("it ended a watch at once, without a word")
        self._failures = 0

    def _told(self, error: Unusable) -> str:
        kept = "keeping the last known workers"
        return f"the pool's Pods cannot be followed at the API server {self.server.url}: {error}; {kept}"

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            LOG.warning(trouble)
        self._trouble = trouble


def _left_out(members: Members) -> str | None:
    return f"pods left out: {'; '.join(members.left_out)}" if members.left_out else None

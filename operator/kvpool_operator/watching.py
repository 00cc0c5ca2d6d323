"""Turns watches into news: every object as it is, then each change, across ends and expiries of watches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from kvpool_api.manifest import at
from pydantic import JsonValue

from kvpool_operator.cluster.seam import Change, Cluster, ClusterError, Expired, Kind, Ref

LOG = logging.getLogger(__name__)


async def changes(
    cluster: Cluster, kind: Kind, labels: Mapping[str, str], *, re_list_s: float
) -> AsyncIterator[Change]:
    """For ever. After any trouble all objects are listed anew and come as ADDED; what went meanwhile is not told."""
    while True:
        try:
            listing = await cluster.list(kind, namespace=None, labels=labels)
            for item in listing.items:
                yield Change("ADDED", item)
            watched = cluster.watch(kind, namespace=None, labels=labels, resource_version=listing.resource_version)
            async for change in watched:
                yield change
        except Expired:
            LOG.info("watching %s: too far behind, listing anew", kind.plural)
        except ClusterError as error:
            LOG.warning("watching %s: %s; trying again", kind.plural, error)
        await asyncio.sleep(re_list_s)


class PoolNews:
    """Which changes of pools are news: our own writes of status come back as changes too, and are none."""

    def __init__(self) -> None:
        self._known: dict[Ref, tuple[JsonValue, ...]] = {}

    def is_news(self, ref: Ref, change: Change) -> bool:
        """A pool that is new, made anew under its name, changed in its spec, or on its way out."""
        if change.type == "DELETED":
            self._known.pop(ref, None)
            return True
        seen = tuple(at(change.object, ("metadata", key)) for key in ("uid", "generation", "deletionTimestamp"))
        news = self._known.get(ref) != seen
        self._known[ref] = seen
        return news

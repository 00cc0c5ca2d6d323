"""Turns watches into news: every object as it is, then each change, across ends and expiries of watches."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

from kvpool_api.manifest import Manifest, as_map, at
from pydantic import JsonValue

from kvpool_operator.cluster.seam import Change, Cluster, ClusterError, Expired, Kind, Ref, Unavailable
from kvpool_operator.manifests import uid_of

LOG = logging.getLogger(__name__)


async def changes(
    cluster: Cluster, kind: Kind, labels: Mapping[str, str], *, re_list_s: float
) -> AsyncGenerator[Change, None]:
    """For ever. After any trouble all objects are listed anew: they come as ADDED, what went meanwhile as DELETED."""
    there = Standing()
    while True:
        wait_s = re_list_s
        try:
            listing = await cluster.list(kind, namespace=None, labels=labels)
            for change in there.listed(listing.items):
                yield change
            watched = cluster.watch(kind, namespace=None, labels=labels, resource_version=listing.resource_version)
            async with aclosing(watched):
                async for change in watched:
                    there.note(change)
                    yield change
        except Expired:
            LOG.info("watching %s: too far behind, listing anew", kind.plural)
        except ClusterError as error:
            LOG.warning("watching %s: %s; trying again", kind.plural, error)
            if isinstance(error, Unavailable):
                wait_s = max(wait_s, error.retry_after_s or 0.0)
        await asyncio.sleep(wait_s)


class Standing:
    """Which objects stand, by uid; of each only what tells whose it is."""

    def __init__(self) -> None:
        self._known: dict[str, Manifest] = {}

    def note(self, change: Change) -> None:
        if change.type == "DELETED":
            self._known.pop(uid_of(change.object), None)
        else:
            self._known[uid_of(change.object)] = _identity(change.object)

    def listed(self, items: Sequence[Manifest]) -> Iterator[Change]:
        """What a new list tells: what is gone, and all that is there."""
        there = {uid_of(item): _identity(item) for item in items}
        gone = [self._known[uid] for uid in self._known.keys() - there.keys()]
        self._known = there
        yield from (Change("DELETED", item) for item in gone)
        yield from (Change("ADDED", item) for item in items)


def _identity(item: Manifest) -> Manifest:
    metadata = as_map(item.get("metadata"))
    kept: Manifest = {key: metadata[key] for key in ("name", "namespace", "uid", "labels") if key in metadata}
    return {"apiVersion": item.get("apiVersion"), "kind": item.get("kind"), "metadata": kept}


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

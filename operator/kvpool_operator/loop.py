"""The loop of one pool, and the loops of all pools: observe, plan, act, status, and wait to be woken."""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
from kvpool_api.conditions import Condition
from kvpool_api.labels import FIELD_MANAGER_STATUS, POOL
from kvpool_api.manifest import Manifest, as_text, at
from kvpool_api.meta import API_VERSION, POOL_KIND
from kvpool_api.pool import InferencePool
from kvpool_api.status import InferencePoolStatus

from kvpool_operator.act import Actor, event
from kvpool_operator.build.services import service_url
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Change, Cluster, ClusterError, Expired, Kind, NotFound, Ref, Unavailable
from kvpool_operator.manifests import label, name_of
from kvpool_operator.observe import observe
from kvpool_operator.observed import Observed
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import ApplyChild, Done, SetRoutable, because
from kvpool_operator.routers import HttpRouterAdmin, RouterAdmin
from kvpool_operator.settings import Settings
from kvpool_operator.status import status_of

LOG = logging.getLogger(__name__)
BACK_OFF_S = (0.2, 1.0, 5.0, 15.0)
RE_LIST_S = 1.0


@dataclass(frozen=True, slots=True)
class Deps:
    """What a loop works with."""

    cluster: Cluster
    routers: RouterAdmin
    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], float] = time.time
    fresh_token: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    url_of: Callable[[InferencePool], str | None] = service_url


async def reconcile(deps: Deps, ref: Ref) -> float | None:
    """One round; when to look again (seconds since the epoch), or None. Raises NotFound when the pool is gone."""
    seen = await observe(deps.cluster, deps.routers, ref, deps.settings)
    now = deps.clock()
    planned = plan(seen, deps.settings, now, deps.fresh_token())
    if seen.pool.metadata.deletion_timestamp is not None:
        return None
    done = await Actor(deps.cluster, ref.namespace, deps.clock).perform(planned.actions)
    status = status_of(seen, done, deps.settings, deps.url_of(seen.pool), now)
    if status != seen.pool.status:
        await _write_status(deps.cluster, seen.pool, status)
    await _tell(deps, seen, done, status, now)
    waits_to_write = status.cache.observed_at is not None
    again = [planned.look_again_at, now + deps.settings.facts_interval_s if waits_to_write else None]
    return min((at for at in again if at is not None), default=None)


async def run_pool(deps: Deps, ref: Ref, wake: asyncio.Event) -> None:
    """Rounds until the pool is gone; woken by `wake`, by deadlines, and by the resync. No error ends it."""
    failures = 0
    while True:
        wake.clear()
        try:
            again = await reconcile(deps, ref)
            failures = 0
        except NotFound:
            return
        except ClusterError as error:
            again = deps.clock() + BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)] * random.uniform(0.7, 1.3)  # noqa: S311
            failures += 1
            LOG.warning("%s: %s; trying again", ref.name, error)
        except Exception:
            again = deps.clock() + BACK_OFF_S[-1]
            LOG.exception("%s: a round failed", ref.name)
        rest = deps.settings.resync_s if again is None else max(0.0, again - deps.clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(rest, deps.settings.resync_s)):
                await wake.wait()
        await asyncio.sleep(deps.settings.debounce_s)


async def operate(
    cluster: Cluster, settings: Settings, url_of: Callable[[InferencePool], str | None] = service_url
) -> None:
    """Runs every pool of the cluster until cancelled. `url_of` tells where a pool answers."""
    async with aiohttp.ClientSession() as session:
        deps = Deps(cluster, HttpRouterAdmin(session, settings.admin_timeout_s), settings, url_of=url_of)
        async with asyncio.TaskGroup() as tasks:
            loops = Loops(deps, tasks)
            for kind in (seam.POOL, seam.POD, seam.DEPLOYMENT):
                tasks.create_task(loops.follow(kind))


class Loops:
    """One loop a pool, started when the pool appears; changes of what it owns wake it."""

    def __init__(self, deps: Deps, tasks: asyncio.TaskGroup) -> None:
        self._deps = deps
        self._tasks = tasks
        self._wakes: dict[Ref, asyncio.Event] = {}
        self._generations: dict[Ref, object] = {}

    async def follow(self, kind: Kind) -> None:
        """Turns changes of this kind into wake-ups, for ever."""
        async for manifest in changes(self._deps.cluster, kind):
            if kind is seam.POOL:
                self._pool_changed(manifest)
            else:
                self._wake(_ref(manifest, label(manifest, POOL)))

    def _pool_changed(self, manifest: Manifest) -> None:
        """Our own writes of status come back as changes too: only a new generation is news."""
        ref = _ref(manifest, name_of(manifest))
        news = at(manifest, ("metadata", "generation")), at(manifest, ("metadata", "deletionTimestamp"))
        if ref not in self._wakes:
            self._wakes[ref] = asyncio.Event()
            self._tasks.create_task(self._run(ref))
        if self._generations.get(ref) != news:
            self._generations[ref] = news
            self._wake(ref)

    async def _run(self, ref: Ref) -> None:
        await run_pool(self._deps, ref, self._wakes[ref])
        del self._wakes[ref]
        self._generations.pop(ref, None)

    def _wake(self, ref: Ref) -> None:
        wake = self._wakes.get(ref)
        if wake is not None:
            wake.set()


async def changes(cluster: Cluster, kind: Kind) -> AsyncIterator[Manifest]:
    """All objects of a kind as they are and each one as it changes; lists anew whenever a watch ends."""
    while True:
        try:
            listing = await cluster.list(kind, namespace=None, labels={})
            for item in listing.items:
                yield item
            watched = cluster.watch(kind, namespace=None, labels={}, resource_version=listing.resource_version)
            async for change in watched:
                yield _object(change)
        except Expired:
            continue
        except Unavailable as error:
            LOG.warning("watching %s: %s; trying again", kind.plural, error)
        await asyncio.sleep(RE_LIST_S)


def _object(change: Change) -> Manifest:
    return change.object


def _ref(manifest: Manifest, pool: str) -> Ref:
    return Ref(seam.POOL, as_text(at(manifest, ("metadata", "namespace"))), pool)


async def _write_status(cluster: Cluster, pool: InferencePool, status: InferencePoolStatus) -> None:
    """Raises ClusterError. The pool itself is never forced, its status has no other writer."""
    manifest: Manifest = {
        "apiVersion": API_VERSION,
        "kind": POOL_KIND,
        "metadata": {"name": pool.metadata.name, "namespace": pool.metadata.namespace},
        "status": status.model_dump(mode="json", by_alias=True),
    }
    await cluster.apply(manifest, manager=FIELD_MANAGER_STATUS, force=True, subresource="status")


async def _tell(deps: Deps, seen: Observed, done: Sequence[Done], status: InferencePoolStatus, now: float) -> None:
    """Events for what was done to engines and for conditions that flipped; a pool at rest tells nothing."""
    pool: Manifest = {
        "apiVersion": API_VERSION,
        "kind": POOL_KIND,
        "metadata": {
            "name": seen.pool.metadata.name,
            "namespace": seen.pool.metadata.namespace,
            "uid": seen.pool.metadata.uid,
        },
    }
    told = [event(pool, each.action.reason, warning=False, now=now) for each in done if _is_news(each)]
    told += [
        event(
            pool, because(flip.reason, f"{flip.type} is {flip.status}: {flip.message}"), warning=_is_bad(flip), now=now
        )
        for flip in flipped(seen.pool.status.conditions, status.conditions)
    ]
    for manifest in told:
        with contextlib.suppress(ClusterError):
            await deps.cluster.apply(manifest, manager=FIELD_MANAGER_STATUS, force=True)


def _is_news(done: Done) -> bool:
    return done.refused is None and not isinstance(done.action, ApplyChild | SetRoutable)


def _is_bad(condition: Condition) -> bool:
    return (condition.status == "False") == (condition.type in ("Accepted", "Ready", "WorkloadReady", "RouterReady"))


def flipped(before: Sequence[Condition], after: Sequence[Condition]) -> list[Condition]:
    """Conditions whose status is another than before; a pool's first conditions are no news."""
    known = {condition.type: condition.status for condition in before}
    return [each for each in after if each.type in known and known[each.type] != each.status]

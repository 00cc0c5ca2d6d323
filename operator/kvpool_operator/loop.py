"""The loop of one pool, and the loops of all pools: observe, plan, act, report, and wait to be woken."""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from kvpool_api.conditions import ConditionType
from kvpool_api.labels import POOL, ROLE, ROLE_ENGINE, ROLE_ROUTER
from kvpool_api.manifest import Manifest, as_map, as_text, at
from kvpool_api.pool import InferencePool, ObjectMeta
from kvpool_api.status import InferencePoolStatus

from kvpool_operator.act import Actor
from kvpool_operator.build.services import service_url
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Change, Cluster, ClusterError, Kind, NotFound, Ref, Unavailable
from kvpool_operator.journal import Journal, Unheard
from kvpool_operator.last_read import LastRead
from kvpool_operator.log_subject import speak_of
from kvpool_operator.manifests import label, name_of
from kvpool_operator.observe import NotUnderstood, observe, status_as_read
from kvpool_operator.observed import Observed
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import AdoptEngine, CreateEngine, Done, Plan
from kvpool_operator.plan.strangers import name_taken
from kvpool_operator.refusals import Refusals
from kvpool_operator.report import report
from kvpool_operator.routers import HttpRouterAdmin, RouterAdmin
from kvpool_operator.settings import Settings
from kvpool_operator.status import status_of, status_of_unreadable
from kvpool_operator.status.cache import facts_due_at
from kvpool_operator.status.causes import waits_without_a_word
from kvpool_operator.status.conditions import ROUTERS_APART, ROUTERS_SILENT
from kvpool_operator.status.scheduling import seen_by_a_scheduler_at
from kvpool_operator.turns import Turns
from kvpool_operator.watching import PoolNews, changes

LOG = logging.getLogger(__name__)
MAX_ASKED_WAIT_S = 60.0
"""An API server that asks for a longer pause is asked again after this."""
WATCHED: Sequence[tuple[Kind, Mapping[str, str]]] = (
    (seam.POOL, {}),
    (seam.POD, {ROLE: ROLE_ENGINE}),
    (seam.POD, {ROLE: ROLE_ROUTER}),
    (seam.DEPLOYMENT, {ROLE: ROLE_ROUTER}),
)
"""What wakes loops: by labels, since a cluster has far more Pods than ours."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What a loop works with."""

    cluster: Cluster
    routers: RouterAdmin
    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], float] = time.time
    fresh_token: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    url_of: Callable[[InferencePool], str | None] = service_url
    journal: Journal = field(default_factory=Unheard)
    hears_of_children: bool = False
    """Each change of any child wakes its pool's loop, so that without one there is no need to read them again."""


async def reconcile(
    deps: Deps, ref: Ref, last_read: LastRead | None = None, refusals: Refusals | None = None
) -> float | None:
    """One round; when to look again (seconds since the epoch), or None: when something changes.

    Raises NotFound when the pool is gone, Unavailable when the cluster cannot answer.
    """
    last_read = last_read or LastRead(deps.settings.resync_s)
    refusals = refusals or _refusals(deps.settings)
    known = last_read.children(deps.clock())
    try:
        seen = await observe(deps.cluster, deps.routers, ref, deps.settings, known)
    except NotUnderstood as unread:
        await _report_unreadable(deps, unread)
        return None
    if seen.pool.metadata.deletion_timestamp is not None:
        return None
    now = deps.clock()
    planned = plan(seen, deps.settings, now, deps.fresh_token())
    actions, held = refusals.sift(planned.actions, seen, now)
    performed = await Actor(deps.cluster, ref.namespace, deps.clock).perform(actions)
    refusals.note(performed, seen, now)
    deps.journal.acted(performed)
    done = [*performed, *held]
    status = status_of(seen, done, deps.settings, deps.url_of(seen.pool), now)
    deps.journal.reported(ref, status)
    await report(deps.cluster, seen.pool.metadata, seen.pool.status, status, done, now)
    if deps.hears_of_children and not performed and name_taken(seen) is None:
        last_read.keep(seen.children, now)
    looks = (*_after_deeds(done, refusals, deps.settings, now), *_next_looks(planned, seen, status, deps.settings, now))
    return min(looks, default=None)


def _refusals(settings: Settings) -> Refusals:
    return Refusals(settings.refused_retry_s, settings.refused_retry_most_s)


def _after_deeds(done: Sequence[Done], refusals: Refusals, settings: Settings, now: float) -> Iterator[float]:
    """Soon, or, where the same might be done again for ever, later."""
    refused = [each for each in done if each.refused is not None]
    if any(not each.goes_for_all for each in refused):
        yield now + settings.refused_retry_s
    elif refused:
        yield refusals.again_at
    elif any(isinstance(each.action, AdoptEngine) or _name_was_in_use(each) for each in done):
        yield now + settings.refused_retry_s
    elif done:
        yield now + settings.settle_s


def _name_was_in_use(done: Done) -> bool:
    return done.overtaken and isinstance(done.action, CreateEngine)


def _next_looks(
    planned: Plan,
    seen: Observed,
    status: InferencePoolStatus,
    settings: Settings,
    now: float,
) -> Iterator[float]:
    if planned.look_again_at is not None:
        yield planned.look_again_at
    if name_taken(seen) is not None:  # no watch tells of what does not bear our label
        yield now + settings.refused_retry_s
    if any(each.type == ConditionType.KV_EVENTS_FLOWING and each.status == "False" for each in status.conditions):
        yield now + settings.doubt_interval_s
    if any(each.reason in (ROUTERS_APART, ROUTERS_SILENT) for each in status.conditions):
        yield now + settings.silence_interval_s
    yield from (due for engine in seen.engines if (due := seen_by_a_scheduler_at(engine)) is not None and due > now)
    if any(waits_without_a_word(engine.pod) for engine in seen.engines):
        yield now + settings.mount_interval_s
    facts = facts_due_at(seen, status.cache, settings, now)
    if facts is not None:
        yield facts


async def _report_unreadable(deps: Deps, unread: NotUnderstood) -> None:
    before = status_as_read(unread.pool)
    pool = ObjectMeta.model_validate(as_map(unread.pool.get("metadata")))
    now = deps.clock()
    await report(deps.cluster, pool, before, status_of_unreadable(pool, before, str(unread), now), (), now)


async def run_pool(deps: Deps, ref: Ref, wake: asyncio.Event, turns: Turns | None = None) -> None:
    """Rounds until the pool is gone; woken by `wake`, by deadlines, and by the resync. No error ends it.

    `turns`, shared by the loops of one operator, say when a round may begin.
    """
    deps.journal.pool_begins(ref)
    try:
        with contextlib.suppress(NotFound):
            await _rounds(deps, ref, wake, turns)
    finally:
        deps.journal.pool_ends(ref)


async def _rounds(deps: Deps, ref: Ref, wake: asyncio.Event, turns: Turns | None) -> None:
    """Raises NotFound when the pool is gone."""
    failures, last_read, refusals = 0, LastRead(deps.settings.resync_s), _refusals(deps.settings)
    while True:
        await asyncio.sleep(turns.wait_s() if turns else 0.0)
        if wake.is_set():
            last_read.forget()
        wake.clear()
        try:
            again = await _told_round(deps, ref, last_read, refusals)
        except NotFound:
            raise
        except Exception as error:
            _complain(ref, error)
            last_read.forget()
            await _back_off(deps.settings, wake, error, failures)
            failures += 1
            continue
        failures = 0
        if await _rest(deps, wake, again):
            last_read.forget()


async def _told_round(deps: Deps, ref: Ref, last_read: LastRead, refusals: Refusals) -> float | None:
    """`reconcile`, timed."""
    begun, failure = time.perf_counter(), None
    try:
        return await reconcile(deps, ref, last_read, refusals)
    except NotFound:
        raise
    except Exception as error:
        failure = error
        raise
    finally:
        deps.journal.round_ends(ref, time.perf_counter() - begun, failure)


async def _rest(deps: Deps, wake: asyncio.Event, until: float | None) -> bool:
    """Whether it was news that ended it."""
    heard, settings, begun = False, deps.settings, time.monotonic()
    rest_s = settings.resync_s if until is None else max(0.0, until - deps.clock())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(rest_s, settings.resync_s)):
            heard = await wake.wait()
            is_burst = time.monotonic() - begun < settings.debounce_limit_s
            await _quiet(wake, settings.debounce_after_round_s if is_burst else settings.debounce_s, settings)
    return heard


async def _quiet(wake: asyncio.Event, quiet_s: float, settings: Settings) -> None:
    """Until nothing has woken us for so long, so that a burst costs one round; but an endless one does not hold us."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.debounce_limit_s):
            while wake.is_set():
                wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(quiet_s):
                        await wake.wait()


def _complain(ref: Ref, error: Exception) -> None:
    """What a cluster answers is told in a line; anything else is a fault of ours and shows where it is."""
    if isinstance(error, ClusterError):
        LOG.warning("%s: %s; trying again", ref.name, error)
    else:
        LOG.error("%s: a round failed; trying again", ref.name, exc_info=error)


async def _back_off(settings: Settings, wake: asyncio.Event, error: Exception, failures: int) -> None:
    """The wait before the next try; news cuts it short where the API server could not answer, for then it can again.

    Any other failure may come with each round, and what the round does is news too: that would chase itself.
    """
    wait_s, asked_s = back_off_s(settings, failures), _asked_to_wait_s(error)
    if not isinstance(error, Unavailable):
        await asyncio.sleep(wait_s)
        return
    least_s = max(asked_s, min(wait_s, settings.least_back_off_s))
    await asyncio.sleep(least_s)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s - least_s):
            await wake.wait()


def _asked_to_wait_s(error: Exception) -> float:
    """What the API server asks for, within reason."""
    told = error.retry_after_s if isinstance(error, Unavailable) else None
    return min(told or 0.0, MAX_ASKED_WAIT_S)


def back_off_s(settings: Settings, failures: int) -> float:
    """How long to wait after so many failures before this one."""
    waits = settings.back_off_s
    return waits[min(failures, len(waits) - 1)] * random.uniform(0.7, 1.3)  # noqa: S311 - spreads retries


async def operate(
    cluster: Cluster, settings: Settings, url_of: Callable[[InferencePool], str | None] = service_url
) -> None:
    """Runs every pool of the cluster until cancelled. `url_of` tells where a pool answers."""
    async with aiohttp.ClientSession() as session:
        deps = Deps(cluster, HttpRouterAdmin(session, settings.admin_timeout_s), settings, url_of=url_of)
        async with asyncio.TaskGroup() as tasks:
            loops = Loops(deps, tasks)
            for kind, labels in WATCHED:
                tasks.create_task(loops.follow(kind, labels))


class Loops:
    """One loop a pool, started when the pool appears; changes of what it owns wake it."""

    def __init__(self, deps: Deps, tasks: asyncio.TaskGroup) -> None:
        self._deps = deps
        self._tasks = tasks
        self._wakes: dict[Ref, asyncio.Event] = {}
        self._running: dict[Ref, asyncio.Task[None]] = {}
        self._news = PoolNews()
        pace = deps.settings
        self._turns = Turns(time.monotonic, at_once=pace.rounds_at_once, per_s=pace.rounds_per_s)

    async def follow(self, kind: Kind, labels: Mapping[str, str]) -> None:
        """Turns changes of these objects into wake-ups, for ever."""
        async for change in changes(self._deps.cluster, kind, labels, re_list_s=self._deps.settings.re_list_s):
            self.changed(kind, change)

    def changed(self, kind: Kind, change: Change) -> None:
        """A pool, or something that bears a pool's label, is new or other than before."""
        if kind is seam.POOL:
            self._pool_changed(_ref(change.object, name_of(change.object)), change)
        else:
            self._wake(_ref(change.object, label(change.object, POOL)))

    def wake_all(self) -> None:
        """Whoever watches has missed changes, and cannot tell which."""
        for wake in self._wakes.values():
            wake.set()

    def stop(self) -> None:
        """Breaks every loop off where it stands: as after a crash, the next operator goes on from what it sees."""
        for task in self._running.values():
            task.cancel()

    def _pool_changed(self, ref: Ref, change: Change) -> None:
        if not self._news.is_news(ref, change):
            return
        if ref not in self._wakes and change.type != "DELETED":
            self._wakes[ref] = asyncio.Event()
            self._running[ref] = self._tasks.create_task(self._run(ref), name=f"pool {ref.namespace}/{ref.name}")
        self._wake(ref)

    async def _run(self, ref: Ref) -> None:
        """The pool's loop, again if the pool was made anew while it ended.

        A pool deleted and made again under its name wakes the loop that is just finding the old one gone; without the
        second look that wake-up would be lost and the new pool would have no loop.
        """
        speak_of(ref)
        wake = self._wakes[ref]
        await run_pool(self._deps, ref, wake, self._turns)
        while wake.is_set():
            await run_pool(self._deps, ref, wake, self._turns)
        del self._wakes[ref], self._running[ref]

    def _wake(self, ref: Ref) -> None:
        wake = self._wakes.get(ref)
        if wake is not None:
            wake.set()


def _ref(manifest: Manifest, pool: str) -> Ref:
    return Ref(seam.POOL, as_text(at(manifest, ("metadata", "namespace"))), pool)

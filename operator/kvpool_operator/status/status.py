"""One status for one observation."""

from collections.abc import Sequence

from kvpool_api.labels import engine_selector
from kvpool_api.pool import ObjectMeta
from kvpool_api.status import InferencePoolStatus, RouterStatus

from kvpool_operator.observed import Observed
from kvpool_operator.plan.actions import Done
from kvpool_operator.plan.template import CurrentTemplate
from kvpool_operator.settings import Settings
from kvpool_operator.status.cache import cache_status
from kvpool_operator.status.conditions import dated, verdicts, verdicts_unread


def status_of(
    seen: Observed, done: Sequence[Done], settings: Settings, url: str | None, now: float
) -> InferencePoolStatus:
    """The pool's status after this round; equal to the one before where nothing has changed."""
    pool = seen.pool
    active = [engine for engine in seen.engines if engine.active]
    ready_routers = sum(router.ready and not router.terminating for router in seen.routers)
    return InferencePoolStatus(
        observed_generation=pool.metadata.generation,
        replicas=len(seen.kept),
        desired_replicas=pool.spec.replicas,
        ready_replicas=sum(engine.containers_ready_since is not None for engine in active),
        routable_replicas=seen.available,
        outdated_replicas=_outdated(seen, settings),
        selector=",".join(f"{name}={value}" for name, value in engine_selector(pool.metadata.name).items()),
        cache=cache_status(seen, settings, now),
        router=RouterStatus(url=url, ready_replicas=ready_routers),
        conditions=dated(verdicts(seen, done, now), pool.status.conditions, pool.metadata.generation, now),
    )


def status_of_unreadable(pool: ObjectMeta, before: InferencePoolStatus, words: str, now: float) -> InferencePoolStatus:
    """The status of a pool whose spec this release does not understand; what was known before stays."""
    conditions = dated(verdicts_unread(words), before.conditions, pool.generation, now)
    return before.model_copy(update={"observed_generation": pool.generation, "conditions": conditions})


def _outdated(seen: Observed, settings: Settings) -> int:
    current = CurrentTemplate(seen.pool, settings.builder_revision)
    active = [engine for engine in seen.engines if engine.active]
    return sum(not current.is_of_this_release(engine) or current.why_outdated(engine) is not None for engine in active)

"""Cache facts of the last five minutes, over all routers: rounded, dated, and null where unknown."""

from kvpool_api.status import CacheStatus
from kvpool_api.wire import RouterState

from kvpool_operator.manifests import rfc3339, seconds
from kvpool_operator.observed import Observed
from kvpool_operator.settings import Settings

FEWEST_TOKENS = 1000
"""Below so many prompt tokens a hit rate says nothing."""


def cache_status(seen: Observed, settings: Settings, now: float) -> CacheStatus:
    """New facts if their time has come and they differ, the old ones if not, none if those are too old."""
    before = seen.pool.status.cache
    age = _age(before, now)
    states = _states(seen)
    if not states:
        return before if age <= settings.facts_expiry_s else CacheStatus()
    if age < settings.facts_interval_s:
        return before
    found = _facts(states)
    if found == before.model_copy(update={"observed_at": None}):
        return before
    return found.model_copy(update={"observed_at": rfc3339(now)})


def facts_due_at(seen: Observed, told: CacheStatus, settings: Settings, now: float) -> float | None:
    """When to look at cache facts again; None where there are none to expect and none to withdraw."""
    if not _states(seen):
        return None if told.observed_at is None else now + settings.facts_interval_s
    is_moving = _age(told, now) <= settings.facts_expiry_s
    return now + (settings.facts_interval_s if is_moving else settings.facts_idle_interval_s)


def _age(cache: CacheStatus, now: float) -> float:
    return now - (seconds(cache.observed_at) or 0.0)


def _states(seen: Observed) -> list[RouterState]:
    return [router.state for router in seen.routers if router.state is not None]


def _facts(states: list[RouterState]) -> CacheStatus:
    """Requests are summed over routers; engines are the same to each, so one router's word is enough."""
    prompt = sum(state.window.prompt_tokens for state in states)
    enough = prompt >= FEWEST_TOKENS
    usages = [w.kv_usage_percent for w in states[0].workers if w.kv_usage_percent is not None]
    waiting = [worker.waiting for worker in states[0].workers if worker.waiting is not None]
    return CacheStatus(
        hit_percent=_percent(sum(state.window.cached_tokens for state in states), prompt) if enough else None,
        predicted_percent=_percent(sum(state.window.predicted_tokens for state in states), prompt) if enough else None,
        kv_usage_percent=round(sum(usages) / len(usages)) if usages else None,
        queue=sum(waiting) + sum(state.queue for state in states) if waiting else None,
    )


def _percent(part: int, whole: int) -> int:
    return min(100, round(100 * part / whole))

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
    age = now - (seconds(before.observed_at) or 0.0)
    states = [router.state for router in seen.routers if router.state is not None]
    if not states:
        return before if age <= settings.facts_expiry_s else CacheStatus()
    if age < settings.facts_interval_s:
        return before
    found = _facts(states)
    if found == before.model_copy(update={"observed_at": None}):
        return before
    return found.model_copy(update={"observed_at": rfc3339(now)})


def _facts(states: list[RouterState]) -> CacheStatus:
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

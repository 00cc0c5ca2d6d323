"""Strategies: one signature, `(request, pool, now) -> Choice`; one file each."""

from collections.abc import Callable, Mapping

from kvpool_api.spec import Strategy as StrategyName

from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.least_load import LeastLoad
from kvpool_router.score.protocol import Strategy
from kvpool_router.score.random_choice import RandomChoice
from kvpool_router.score.round_robin import RoundRobin

STRATEGIES: Mapping[StrategyName, Callable[[int], Strategy]] = {
    StrategyName.CACHE_AWARE: CacheAware,
    StrategyName.ROUND_ROBIN: RoundRobin,
    StrategyName.LEAST_LOAD: LeastLoad,
    StrategyName.RANDOM: RandomChoice,
}
"""By the name that the API gives them; each takes a seed for its ties or draws."""

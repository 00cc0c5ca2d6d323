"""How late the simulated engines' steps were: says whether the model was measured, or the machine."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import aiohttp

BUCKET = re.compile(r'^kvpool_sim_step_lateness_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)

Buckets = Mapping[float, float]
"""Steps that were at most so many seconds late, by that bound; the last bound is infinite."""


async def step_lateness_p99_ms(http: aiohttp.ClientSession, engine_urls: Iterable[str]) -> float | None:
    """Over all steps of the engines; None where they do not say."""
    total: Counter[float] = Counter()
    for url in engine_urls:
        total.update(await _buckets(http, url))
    return quantile_ms(total, 0.99)


async def _buckets(http: aiohttp.ClientSession, url: str) -> dict[float, float]:
    try:
        async with http.get(f"{url}/metrics") as answer:
            return buckets_of(await answer.text())
    except (aiohttp.ClientError, TimeoutError):
        return {}


def buckets_of(metrics: str) -> dict[float, float]:
    return {float(bound): float(count) for bound, count in BUCKET.findall(metrics)}


def quantile_ms(buckets: Buckets, share: float) -> float | None:
    """Linear between the bounds of its bucket, as Prometheus does; the last finite bound for what lies above it."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted = share * buckets[bounds[-1]]
    place = next(place for place, bound in enumerate(bounds) if buckets[bound] >= wanted)
    lower, below = (bounds[place - 1], buckets[bounds[place - 1]]) if place else (0.0, 0.0)
    if math.isinf(bounds[place]):
        return 1000 * lower
    part = (wanted - below) / (buckets[bounds[place]] - below)
    return 1000 * (lower + part * (bounds[place] - lower))

"""The default: predicted TTFT plus the delay that the prefill imposes on others, by tokens new to the engine's history.

    cost(e) = T(e) + w * P(e)

T(e) is the request's own expected TTFT at e: prefill queued there, its own uncached tokens, the steps' overhead and
what decoding requests add to each step. P(e) is the prefill time of those of its tokens that are new to e's history,
and w the mean number of requests queued per engine: whoever waits in the pool waits for this prefill too. Without a
queue the second term vanishes; under load it keeps each prefix where it belongs, even if the cache has just lost it,
so that caches do not fill with duplicates. There is no weight to tune.

What lies below an engine's GPU need not be computed, but must be loaded first: that adds to T(e) alone, since an engine
computes for others meanwhile. So it counts for less than what is on the GPU and, wherever loading is the quicker, for
more than nothing. An engine that could load does: it does not choose.

While nobody waits, a small hit counts as none. Else the first worker to hold the system prompt that all share would
draw all traffic of a quiet pool, and fill its cache while the others' stay empty; so each worker computes it once.
"""

from collections.abc import Sequence

from kvpool_router.calibration import BATCHED_TOKENS
from kvpool_router.score.protocol import Choice, Cost, RequestView, WorkerView
from kvpool_router.score.ties import TieBreak

_LEAST_HIT = 8
"""A hit of less than one in so many prompt tokens is small."""


class CacheAware:
    """Least social cost."""

    def __init__(self, seed: int = 0) -> None:
        self._ties = TieBreak(seed)

    def __call__(self, request: RequestView, pool: Sequence[WorkerView], now: float) -> Choice:
        pressure = sum(each.load.queued_requests for each in pool) / len(pool)
        costs = tuple([_cost(request.prompt_tokens, each, pressure) for each in pool])
        index, tied = self._ties.least([cost.total_s for cost in costs], pool)
        return Choice(index, "least cost, a tie given to the longest idle" if tied else "least cost", costs)


def _cost(prompt_tokens: int, worker: WorkerView, pressure: float) -> Cost:
    load, rates = worker.load, worker.rates
    held, known, load_s = worker.reachable_tokens, worker.history_tokens, worker.load_s
    if not pressure and held * _LEAST_HIT < prompt_tokens:
        held, load_s = 0, 0.0
    new = prompt_tokens - held
    steps = -(-(load.queued_tokens + new) // BATCHED_TOKENS) or 1
    own_s = steps * rates.overhead_s + rates.prefill_s(new, held)
    decode_s = 0.0
    if load.running:
        decoding_s = rates.decode_load_s(load.running, load.context_tokens)
        decode_s = steps * decoding_s
        if not load.queued_requests:
            decode_s += 0.5 * (rates.step_s + decoding_s)
    imposed_s = 0.0
    if pressure:
        known = max(known, held)
        imposed_s = pressure * rates.prefill_s(prompt_tokens - known, known)
    total_s = load.queued_s + load_s + own_s + decode_s + imposed_s
    return Cost(total_s, load.queued_s, own_s, decode_s, imposed_s, load_s)

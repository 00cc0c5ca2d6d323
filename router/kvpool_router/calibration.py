"""How fast each engine prefills and decodes, learned from what the proxy sees; no constant belongs to a model or a GPU.

Two linear laws, each fitted by the same bounded, robust least squares over what the whole pool shows:

    burst_s = overhead * steps + token * n + attention * n (p + n / 2)     n new tokens on p cached ones
    gap_s   = step + request * running + context * context_tokens          one decode step

Both shapes are those of public engine profiles (tables by NVIDIA's aiconfigurator follow them within 2-5 %). A worker
that is clearly slower or faster than the pool has one factor of its own, so that a new worker starts from what the
others taught. What is not clear does not count, and what was seen long ago is no longer clear: else the dearer of two
equal workers would get no request, and with it no chance to be found equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import copysign, exp, log, sqrt
from typing import NamedTuple

from kvpool_router.load_times import LoadTimes
from kvpool_router.workers import WorkerId

BATCHED_TOKENS = 8192
"""vLLM's default of `--max-num-batched-tokens` on serving GPUs: how many prompt tokens one step takes."""

_KEEP = 1.0 - 1.0 / 512.0
"""Of every older observation with each new one: after 512 it has faded to a third."""
_PRIOR_WEIGHT = 0.5
_MEMORY = 32.0
"""Observations of a worker after which an older one has faded to a third, if every worker is seen as often."""
_DOUBT = 1.5
"""Standard errors of its mean that a worker must differ by. A single outlier, however wild, moves the mean by one."""
_ASSUMED_SPREAD = 0.25
"""Of a worker's times around the pool's before any is seen; weighs as much as one observation."""
_LUCKIEST = 2.0
"""Times faster than expected that an observation can count as: beyond that a cache helped that nobody knew of."""
_FACTOR_BOUND = log(8.0)
_STREAMS_OUTWEIGH = 64
"""Whole answers that teach nothing after each stream, for a stream shows prefill and decode apart."""
_UNITS = (1.0, 1e3, 1e6)
_STEP_UNITS = (1.0, 1e1, 1e5)


Features = tuple[float, float, float, float, float, float]
"""What the coefficients of `Rates` multiply, in their order."""


class Rates(NamedTuple):
    """Seconds, for one worker."""

    overhead_s: float
    token_s: float
    attention_s: float
    step_s: float
    running_s: float
    context_s: float

    def prefill_s(self, new: int, held: int) -> float:
        """Compute of `new` tokens on `held` ones, without the step's overhead."""
        return new * (self.token_s + self.attention_s * (held + new * 0.5))

    def decode_load_s(self, running: int, context_tokens: int) -> float:
        """What decoding requests add to any step."""
        return self.running_s * running + self.context_s * context_tokens


PRIOR = Rates(0.010, 40e-6, 1e-9, 0.010, 30e-6, 40e-9)
"""An 8B to 32B model on one or two recent GPUs; it matters for the first few requests only."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Prefill work between two first tokens of one worker, or since it was idle."""

    elapsed_s: float
    requests: int
    new_tokens: int
    attention: float
    """Sum of n (p + n / 2)."""
    running: float
    context_tokens: float
    waited_for_step: bool
    """It began while the engine was decoding only, so it first sat out the rest of a step."""


@dataclass(slots=True)
class _Evidence:
    """What one worker, or the whole pool, has shown: fading sums over its observations.

    `per_second` sums what the coefficients multiply, over the seconds seen, so that its product with any coefficients
    is the sum of expected / observed by these. Workers are thus compared by what the pool knows now; kept as plain
    ratios, what one showed before the pool knew better would make it look slow for as long as it is not seen again.
    """

    seen_at: float = 0.0
    """By the calibration's clock, which says how much has faded since."""
    weight: float = 0.0
    per_second: Features = (0.0,) * 6
    squares: float = 0.0
    """Of expected / observed - 1, as expected then."""

    def take(self, features: Features, ratio: float, expected: float, now: float) -> None:
        # Written out, as in `_Fit._add`.
        keep, scale, self.seen_at = exp(self.seen_at - now), ratio / expected, now
        self.weight = keep * self.weight + 1.0
        self.squares = keep * self.squares + (ratio - 1.0) ** 2
        a, b, c, d, e, f = self.per_second
        u, v, w, x, y, z = features
        self.per_second = (
            keep * a + scale * u,
            keep * b + scale * v,
            keep * c + scale * w,
            keep * d + scale * x,
            keep * e + scale * y,
            keep * f + scale * z,
        )

    def expected(self, rates: Rates) -> float:
        """The sum of expected / observed by these rates, as much faded as `weight`."""
        (a, b, c, d, e, f), (u, v, w, x, y, z) = self.per_second, rates
        return a * u + b * v + c * w + d * x + e * y + f * z

    def mean(self, rates: Rates) -> float:
        """Expected / observed, one observation's worth of it believed to be 1."""
        return (self.expected(rates) + 1.0) / (self.weight + 1.0)

    def slower(self, rates: Rates, mean: float, now: float) -> float:
        """The logarithm of how many times slower than the pool, whose mean is given, the worker clearly is."""
        keep = exp(self.seen_at - now)
        weight = keep * self.weight + 1.0
        off = log(weight * mean / (keep * self.expected(rates) + mean))
        doubt = _DOUBT * sqrt(keep * self.squares + _ASSUMED_SPREAD**2) / weight
        return copysign(min(max(abs(off) - doubt, 0.0), _FACTOR_BOUND), off)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of which only the end was seen, from when it was sent."""

    elapsed_s: float
    new_tokens: int
    attention: float
    """n (p + n / 2)."""
    others_s: float
    """Prefill of others that it is expected to have waited for."""
    steps: int
    """Decode steps after its first token."""
    running: float
    context_tokens: float


class Calibration:
    """Rates per worker; pure, and O(1) in memory per worker."""

    def __init__(self, prior: Rates = PRIOR) -> None:
        self._bursts = _Fit(_UNITS, prior[:3], ((1.0, 500.0, 125e3), (1.0, 4000.0, 16e6), (1.0, 16000.0, 128e6)))
        self._gaps = _Fit(_STEP_UNITS, prior[3:], ((1.0, 1.0, 2e3), (1.0, 16.0, 60e3), (1.0, 64.0, 400e3)))
        self._evidence: dict[WorkerId, _Evidence] = {}
        self._everyone = _Evidence()
        self._clock = 0.0
        """Counts observations of the pool in units of its memory, so that a worker's own fade while others are seen."""
        self._loads = LoadTimes()
        self._rates: dict[WorkerId, Rates] = {}
        self._pool = prior
        self._answers_since_stream = _STREAMS_OUTWEIGH

    def rates(self, worker: WorkerId) -> Rates:
        found = self._rates.get(worker)
        if found is None:
            a, b, c, d, e, f = self._pool
            factor = self._factor(worker)
            found = self._rates[worker] = Rates(a * factor, b * factor, c * factor, d * factor, e * factor, f * factor)
        return found

    def observe_burst(self, worker: WorkerId, burst: Burst) -> None:
        """Learns prefill speed; decode steps that ran within are taken out first."""
        self._answers_since_stream = 0
        rates = self.rates(worker)
        steps = -(-burst.new_tokens // BATCHED_TOKENS) or 1
        load = rates.decode_load_s(round(burst.running), round(burst.context_tokens))
        mixed = load * steps + (0.5 * (rates.step_s + load) if burst.waited_for_step and burst.running else 0.0)
        elapsed = max(burst.elapsed_s - mixed, 0.2 * burst.elapsed_s)
        self._learn_burst(worker, (float(steps), float(burst.new_tokens), burst.attention), elapsed)

    def load_s(self, worker: WorkerId, tokens: int) -> float:
        """Seconds until so many tokens are loaded from below the GPU."""
        return tokens * self._loads.token_s(worker)

    def observe_load(self, worker: WorkerId, loaded: int, new: int, elapsed_s: float) -> None:
        """Learns from the first token of a request that found its engine idle: what prefill does not account for."""
        rates = self.rates(worker)
        steps = -(-new // BATCHED_TOKENS) or 1
        prefill_s = steps * rates.overhead_s + rates.prefill_s(new, loaded)
        self._loads.observe(worker, loaded, elapsed_s - prefill_s)

    def observe_gap(self, worker: WorkerId, gap_s: float, running: float, context_tokens: float) -> None:
        """Learns decode speed from the mean time between the tokens of one stream, prefill steps taken out."""
        self._learn_gap(worker, (1.0, running, context_tokens), gap_s)

    def observe_answer(self, worker: WorkerId, answer: Answer) -> None:
        """Learns from an answer that was not streamed, in a pool where streams are rare.

        What it took more or less than expected is laid to prefill and decode in proportion to what each was expected to
        take (the step of expectation maximization for a sum of which only the total is seen): the total comes right at
        once, the parts as far as answers differ in shape. An answer that mostly waited for others tells little.
        """
        self._answers_since_stream += 1
        rates = self.rates(worker)
        steps = -(-answer.new_tokens // BATCHED_TOKENS) or 1
        burst = (float(steps), float(answer.new_tokens), answer.attention)
        gap = (1.0, answer.running, answer.context_tokens)
        prefill_s, gap_s = _product(rates[:3], burst), _product(rates[3:], gap)
        own_s = prefill_s + answer.steps * gap_s
        if self._answers_since_stream <= _STREAMS_OUTWEIGH or own_s <= answer.others_s:
            return
        ratio = answer.elapsed_s / (own_s + answer.others_s)
        self._learn_burst(worker, burst, prefill_s * ratio)
        if answer.steps:
            self._learn_gap(worker, gap, gap_s * ratio)

    def _learn_burst(self, worker: WorkerId, seen: tuple[float, float, float], seconds: float) -> None:
        if seconds <= 0.0:
            return
        expected = _product(self.rates(worker)[:3], seen) or seconds
        self._bursts.learn(seen, seconds, expected)
        self._weigh(worker, (*seen, 0.0, 0.0, 0.0), seconds, expected, self._bursts.moved)

    def _learn_gap(self, worker: WorkerId, seen: tuple[float, float, float], seconds: float) -> None:
        if seconds <= 0.0:
            return
        expected = _product(self.rates(worker)[3:], seen) or seconds
        self._gaps.learn(seen, seconds, expected)
        self._weigh(worker, (0.0, 0.0, 0.0, *seen), seconds, expected, self._gaps.moved)

    def _factor(self, worker: WorkerId) -> float:
        """How much slower than the fit all are, for it takes its time to follow, and the worker beyond that."""
        mean = self._everyone.mean(self._pool)
        evidence = self._evidence.get(worker)
        if evidence is None:
            return 1.0 / mean
        return exp(evidence.slower(self._pool, mean, self._clock)) / mean

    def forget(self, worker: WorkerId) -> None:
        self._evidence.pop(worker, None)
        self._loads.forget(worker)
        self._rates.pop(worker, None)

    def _weigh(self, worker: WorkerId, features: Features, seconds: float, expected: float, pool_moved: bool) -> None:
        """Holds an observation against what was expected of this very worker."""
        evidence = self._evidence.get(worker)
        if evidence is None:
            evidence = self._evidence[worker] = _Evidence()
        self._clock += 1.0 / (_MEMORY * len(self._evidence))
        ratio = min(expected / seconds, _LUCKIEST)
        evidence.take(features, ratio, expected, self._clock)
        self._everyone.take(features, ratio, expected, self._clock)
        if pool_moved:
            self._pool = Rates(*self._bursts.coefficients, *self._gaps.coefficients)
            self._rates.clear()
        elif abs(ratio - 1.0) > _ASSUMED_SPREAD:
            self._rates.pop(worker, None)  # a slow worker tried again must not be tried until the fit moves


def _product(rates: Sequence[float], features: tuple[float, float, float]) -> float:
    return rates[0] * features[0] + rates[1] * features[1] + rates[2] * features[2]


class _Fit:
    """Non-negative least squares of three coefficients with fading memory.

    Errors count relative to the time, so that short requests teach the overhead as much as long ones teach the rate. An
    observation further off than three usual errors is taken for three usual errors off: a stall teaches little, while a
    lasting change widens the usual error and is followed.
    """

    def __init__(
        self,
        units: tuple[float, float, float],
        prior: Sequence[float],
        anchors: Sequence[tuple[float, float, float]],
    ) -> None:
        self._units = units
        self._upper = (0.0,) * 6
        """The Gram matrix's upper triangle, row by row."""
        self._moment = (0.0,) * 3
        self._error = 0.5
        self._since = 0
        self._seen = 0
        self.moved = False
        self.coefficients = tuple(prior)
        for anchor in anchors:
            seconds = sum(c * x for c, x in zip(prior, anchor, strict=True))
            self._add(anchor, seconds, _PRIOR_WEIGHT / (seconds * seconds))

    def learn(self, features: tuple[float, float, float], seconds: float, expected: float) -> None:
        """Takes one observation in, of which `expected` seconds were expected: those of its worker, not of the pool."""
        off = seconds / expected - 1.0
        bound = 3.0 * self._error
        self._error = max(self._error + 0.02 * (min(abs(off), bound) - self._error), 0.01)
        believed = expected * min(max(1.0 + off, 1.0 / (1.0 + bound)), 1.0 + bound)
        self._add(features, believed, 1.0 / (believed * expected))
        self._seen += 1
        self._since += 1
        self.moved = self._since * 16 >= min(self._seen, 256)
        if self.moved:
            self._since = 0
            self.coefficients = self._solved()

    def _add(self, features: tuple[float, float, float], seconds: float, weight: float) -> None:
        # Written out: twice a request, and three times as fast as a loop.
        (x, y, z), (ux, uy, uz) = features, self._units
        x, y, z = x / ux, y / uy, z / uz
        wx, wy, wz = weight * x, weight * y, weight * z
        (xx, xy, xz, yy, yz, zz), (mx, my, mz), keep = self._upper, self._moment, _KEEP
        self._upper = (
            keep * xx + wx * x,
            keep * xy + wx * y,
            keep * xz + wx * z,
            keep * yy + wy * y,
            keep * yz + wy * z,
            keep * zz + wz * z,
        )
        self._moment = (keep * mx + wx * seconds, keep * my + wy * seconds, keep * mz + wz * seconds)

    def _solved(self) -> tuple[float, ...]:
        """The best fit with no negative coefficient: the best of the seven choices of which to keep."""
        xx, xy, xz, yy, yz, zz = self._upper
        gram = ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))
        best, lowest = [0.0, 0.0, 0.0], 0.0
        for size in (3, 2, 1):
            for kept in combinations(range(3), size):
                found = _solve(gram, self._moment, kept)
                if found is None or min(found) < 0.0:
                    continue
                loss = -sum(found[k] * self._moment[i] for k, i in enumerate(kept))
                if loss < lowest:
                    lowest, best = loss, [found[kept.index(i)] if i in kept else 0.0 for i in range(3)]
            if size == 3 and lowest < 0.0:
                break
        return tuple(value / unit for value, unit in zip(best, self._units, strict=True))


def _solve(gram: Sequence[Sequence[float]], moment: Sequence[float], kept: tuple[int, ...]) -> list[float] | None:
    """Gaussian elimination of the kept rows and columns; None where they are singular."""
    rows = [[gram[i][j] for j in kept] + [moment[i]] for i in kept]
    size = len(kept)
    for k in range(size):
        pivot = rows[k][k]
        if pivot <= 1e-12 * max(gram[kept[k]][kept[k]], 1e-300):
            return None
        for row in rows[k + 1 :]:
            ratio = row[k] / pivot
            for j in range(k, size + 1):
                row[j] -= ratio * rows[k][j]
    found = [0.0] * size
    for k in reversed(range(size)):
        found[k] = (rows[k][size] - sum(rows[k][j] * found[j] for j in range(k + 1, size))) / rows[k][k]
    return found

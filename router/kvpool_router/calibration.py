"""How fast each engine prefills and decodes, learned from what the proxy sees; no constant belongs to a model or a GPU.

Two linear laws, each fitted by the same bounded, robust least squares over what the whole pool shows:

    burst_s = overhead * steps + token * n + attention * n (p + n / 2)     n new tokens on p cached ones
    gap_s   = step + request * running + context * context_tokens          one decode step

Both shapes are those of public engine profiles (tables by NVIDIA's aiconfigurator follow them within 2-5 %). A worker
that is steadily slower or faster than the pool has one factor of its own, so that a new worker starts from what the
others taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, log
from typing import NamedTuple

from kvpool_router.workers import WorkerId

BATCHED_TOKENS = 8192
"""vLLM's default of `--max-num-batched-tokens` on serving GPUs: how many prompt tokens one step takes."""

_KEEP = 1.0 - 1.0 / 512.0
"""Of every older observation with each new one: after 512 it has faded to a third."""
_PRIOR_WEIGHT = 0.5
_FACTOR_PACE = 0.03
_FACTOR_BOUND = log(8.0)
_UNITS = (1.0, 1e3, 1e6)
_STEP_UNITS = (1.0, 1e1, 1e5)


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


class Calibration:
    """Rates per worker; pure, and O(1) in memory per worker."""

    def __init__(self, prior: Rates = PRIOR) -> None:
        self._bursts = _Fit(_UNITS, prior[:3], ((1.0, 500.0, 125e3), (1.0, 4000.0, 16e6), (1.0, 16000.0, 128e6)))
        self._gaps = _Fit(_STEP_UNITS, prior[3:], ((1.0, 1.0, 2e3), (1.0, 16.0, 60e3), (1.0, 64.0, 400e3)))
        self._factors: dict[WorkerId, float] = {}
        self._rates: dict[WorkerId, Rates] = {}
        self._pool = prior

    def rates(self, worker: WorkerId) -> Rates:
        found = self._rates.get(worker)
        if found is None:
            factor = exp(self._factors.get(worker, 0.0))
            found = self._rates[worker] = Rates(*(each * factor for each in self._pool))
        return found

    def observe_burst(self, worker: WorkerId, burst: Burst) -> None:
        """Learns prefill speed; decode steps that ran within are taken out first."""
        rates = self.rates(worker)
        steps = -(-burst.new_tokens // BATCHED_TOKENS) or 1
        load = rates.decode_load_s(round(burst.running), round(burst.context_tokens))
        mixed = load * steps + (0.5 * (rates.step_s + load) if burst.waited_for_step and burst.running else 0.0)
        elapsed = max(burst.elapsed_s - mixed, 0.2 * burst.elapsed_s)
        if elapsed > 0.0:
            self._learn(worker, self._bursts, (float(steps), float(burst.new_tokens), burst.attention), elapsed)

    def observe_gap(self, worker: WorkerId, gap_s: float, running: float, context_tokens: float) -> None:
        """Learns decode speed from the mean time between the tokens of one stream, prefill steps taken out."""
        if gap_s > 0.0:
            self._learn(worker, self._gaps, (1.0, running, context_tokens), gap_s)

    def forget(self, worker: WorkerId) -> None:
        self._factors.pop(worker, None)
        self._rates.pop(worker, None)

    def _learn(self, worker: WorkerId, fit: "_Fit", features: tuple[float, float, float], seconds: float) -> None:
        surprise = fit.learn(features, seconds)
        factor = self._factors.get(worker, 0.0)
        moved = factor + _FACTOR_PACE * (surprise - factor)
        self._factors[worker] = min(max(moved, -_FACTOR_BOUND), _FACTOR_BOUND)
        if fit.moved:
            self._pool = Rates(*self._bursts.coefficients, *self._gaps.coefficients)
            self._rates.clear()


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

    def learn(self, features: tuple[float, float, float], seconds: float) -> float:
        """Takes one observation in; answers the logarithm of observed over expected, within three usual errors."""
        a, b, c = self.coefficients
        expected = a * features[0] + b * features[1] + c * features[2] or seconds
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
        return log(believed / expected)

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

"""What a run showed, in figures. Units are in the names, which are also the keys of `--json`."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, in milliseconds."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Summary:
    """None where nothing was measured, never zero."""

    requests: int
    errors: int
    errors_by_kind: dict[str, int]
    duration_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    hit_percent: float | None
    predictions: Predictions | None
    ttft_ms: Spread | None
    tpot_ms: Spread | None
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    client_lateness_p99_ms: float | None


def summarize(outcomes: Sequence[Outcome], predictions: Predictions | None) -> Summary:
    usages = [outcome.usage for outcome in outcomes if outcome.usage is not None]
    told = [usage for usage in usages if usage.cached is not None]
    cached = sum(usage.cached or 0 for usage in told)
    told_tokens = sum(usage.prompt for usage in told)
    prompt, output = sum(usage.prompt for usage in usages), sum(usage.output for usage in usages)
    errors = Counter(outcome.error for outcome in outcomes if outcome.error is not None)
    duration_s = max((outcome.last_s for outcome in outcomes), default=0.0)
    late = sorted(outcome.late_s for outcome in outcomes)
    per_s = 1 / duration_s if duration_s else 0.0
    return Summary(
        requests=len(outcomes),
        errors=errors.total(),
        errors_by_kind=dict(errors.most_common()),
        duration_s=duration_s,
        prompt_tokens=prompt,
        output_tokens=output,
        cached_tokens=cached if told else None,
        hit_percent=100 * cached / told_tokens if told_tokens else None,
        predictions=predictions,
        ttft_ms=spread_ms(outcome.ttft_s for outcome in outcomes),
        tpot_ms=spread_ms(outcome.tpot_s for outcome in outcomes),
        requests_per_s=len(usages) * per_s,
        prompt_tokens_per_s=prompt * per_s,
        output_tokens_per_s=output * per_s,
        client_lateness_p99_ms=1000 * percentile(late, 99) if late else None,
    )


def spread_ms(seconds: Iterable[float | None]) -> Spread | None:
    known = sorted(1000 * value for value in seconds if value is not None)
    if not known:
        return None
    p50, p90, p99 = (percentile(known, percent) for percent in (50, 90, 99))
    return Spread(math.fsum(known) / len(known), p50, p90, p99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Between the two nearest ranks, linearly; `ordered` ascends and is not empty."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)

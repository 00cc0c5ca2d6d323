"""The demo's result as one table, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.spec import Strategy
from pydantic import JsonValue
from rich.table import Table

from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.report import figures, milliseconds, percent
from kvpool_cli.bench.summary import Summary
from kvpool_cli.demo_scenarios import LABELS, Scenario

COLUMNS = ("load", "strategy", "hit rate", "predicted", "TTFT p50", "p90", "p99", "TPOT p90", "errors", "step late p99")
NUMBERS_FROM = 2


@dataclass(frozen=True, slots=True)
class Run:
    """One load through one strategy. `step_lateness_p99_ms`: how late the engines' own clocks were served."""

    scenario: Scenario
    strategy: Strategy
    workload: str
    outcomes: Sequence[Outcome]
    summary: Summary
    step_lateness_p99_ms: float | None

    @property
    def label(self) -> str:
        return LABELS[self.strategy]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both strategies under one load; ratios above 1 are cache_aware's gain."""

    round_robin: Run
    cache_aware: Run

    @property
    def runs(self) -> tuple[Run, Run]:
        return (self.round_robin, self.cache_aware)

    @property
    def ttft_p90_ratio(self) -> float | None:
        slow, fast = (run.summary.ttft_ms for run in self.runs)
        return slow.p90 / fast.p90 if slow is not None and fast is not None and fast.p90 else None

    @property
    def hit_ratio(self) -> float | None:
        low, high = (run.summary.hit_percent for run in self.runs)
        return high / low if low and high is not None else None


def as_table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(title="round_robin against cache_aware, four simulated H100 engines each, empty caches")
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if place >= NUMBERS_FROM else "left", no_wrap=place > 0)
    for comparison in comparisons:
        for run in comparison.runs:
            table.add_row(*_cells(run))
        table.add_row("", "[bold]gain[/bold]", *_gain(comparison), end_section=True)
    return table


def _cells(run: Run) -> Iterator[str]:
    found = run.summary
    yield run.scenario.title if run.strategy is Strategy.ROUND_ROBIN else ""
    yield run.label
    yield percent(found.hit_percent)
    yield "-" if found.predictions is None else f"= actual {found.predictions.equal_percent:.1f} %"
    ttft = found.ttft_ms
    yield from ("-", "-", "-") if ttft is None else map(milliseconds, (ttft.p50, ttft.p90, ttft.p99))
    yield "-" if found.tpot_ms is None else milliseconds(found.tpot_ms.p90)
    yield str(found.errors)
    yield milliseconds(run.step_lateness_p99_ms)


def _gain(comparison: Comparison) -> tuple[str, ...]:
    return (_times(comparison.hit_ratio), "", "", _times(comparison.ttft_p90_ratio))


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"[bold]{ratio:.1f} x[/bold]"


def as_json(comparisons: Sequence[Comparison], duration_s: float) -> dict[str, JsonValue]:
    """Keys with units; one entry a load, in it one a strategy."""
    return {
        "duration_s": round(duration_s, 1),
        "predicted_equals_cached_percent": _equal_percent(comparisons),
        "loads": {comparison.cache_aware.scenario.key: _entry(comparison) for comparison in comparisons},
    }


def _entry(comparison: Comparison) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {
        "workload": comparison.cache_aware.workload,
        "ttft_p90_ratio": _rounded(comparison.ttft_p90_ratio),
        "hit_ratio": _rounded(comparison.hit_ratio),
    }
    for run in comparison.runs:
        found[run.label] = {**figures(run.summary), "step_lateness_p99_ms": _rounded(run.step_lateness_p99_ms)}
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _equal_percent(comparisons: Sequence[Comparison]) -> float | None:
    """Over all requests of the demo: the router's prediction against the engine's count, in whole blocks."""
    found = [p for c in comparisons for run in c.runs if (p := run.summary.predictions) is not None]
    compared = sum(predictions.requests for predictions in found)
    return _rounded(100 * sum(predictions.equal_in_blocks for predictions in found) / compared) if compared else None


def by_panel(comparisons: Sequence[Comparison]) -> Mapping[str, Mapping[str, Sequence[Outcome]]]:
    """What the plot shows: a panel a load, a line a strategy."""
    return {c.cache_aware.scenario.title: {run.label: run.outcomes for run in c.runs} for c in comparisons}

"""The demo's result as one table, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.spec import Strategy
from pydantic import JsonValue
from rich import box
from rich.table import Table

from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.report import figures
from kvpool_cli.bench.summary import Summary
from kvpool_cli.demo_scenarios import LABELS, Scenario

COLUMNS = (
    *("", "hit\n%", "predicted\n=actual %", "TTFT\np50 ms", "\np90 ms", "\np99 ms"),
    *("TPOT\np90 ms", "errors", "step late\np99 ms"),
)
LEGEND = {
    "hit": "share of prompt tokens that engines had cached, as they counted",
    "predicted": "share of requests for which the router foretold that count",
    "TTFT": "time to first token, from when the request was due",
    "TPOT": "time per output token after the first",
    "p90": "9 requests of 10 took no longer",
    "errors": "requests without a whole answer",
    "step late": "engines behind their own clock; a few ms: the machine kept up",
    "gain": "cache_aware: so many times the hit rate, and the p90 of TTFT lower",
}


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
    """Fits 80 columns."""
    table = Table(title="four simulated H100 engines each, empty caches", box=box.SIMPLE, padding=0)
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for comparison in comparisons:
        table.add_row(f"[bold]{comparison.cache_aware.scenario.title}[/bold]")
        for run in comparison.runs:
            table.add_row(*_cells(run))
        table.add_row(*_gain(comparison), end_section=True)
    return table


def legend() -> Table:
    """What each column says, one line each, in 80 columns."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, meaning in LEGEND.items():
        table.add_row(name, meaning)
    return table


def _cells(run: Run) -> Iterator[str]:
    found, predictions = run.summary, run.summary.predictions
    yield run.label
    yield _figure(found.hit_percent)
    yield _figure(None if predictions is None else predictions.equal_percent)
    ttft = found.ttft_ms
    yield from map(_whole, (None, None, None) if ttft is None else (ttft.p50, ttft.p90, ttft.p99))
    yield _whole(None if found.tpot_ms is None else found.tpot_ms.p90)
    yield str(found.errors)
    yield _figure(run.step_lateness_p99_ms)


def _gain(comparison: Comparison) -> tuple[str, ...]:
    return ("gain", _times(comparison.hit_ratio), "", "", _times(comparison.ttft_p90_ratio))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


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

"""A run's figures as a table for people, and as one JSON object for machines."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from pydantic import JsonValue
from rich.table import Table

from kvpool_cli.bench.summary import Spread, Summary


def as_json(summary: Summary, workload: str) -> str:
    """One object; spreads are flattened (`ttft_p90_ms`), unknown figures are null."""
    return json.dumps({"workload": workload, **figures(summary)})


def figures(summary: Summary) -> dict[str, JsonValue]:
    flat = asdict(summary)
    predictions = summary.predictions
    flat |= {
        "predictions": None if predictions is None else predictions.requests,
        "predicted_hit_percent": None if predictions is None else predictions.hit_percent,
        "predicted_equals_cached_percent": None if predictions is None else predictions.equal_percent,
    }
    for name in ("ttft", "tpot"):
        flat |= _flattened(name, flat.pop(f"{name}_ms") or {})
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in flat.items()}


def _flattened(name: str, spread: dict[str, float]) -> dict[str, float | None]:
    return {f"{name}_{part}_ms": spread.get(part) for part in ("p50", "p90", "p99", "mean")}


def as_table(summary: Summary, workload: str) -> Table:
    table = Table(title=workload, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _lines(summary):
        table.add_row(name, text)
    return table


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    kinds = ", ".join(f"{count} x {kind}" for kind, count in summary.errors_by_kind.items())
    yield "requests", f"{summary.requests:,} in {summary.duration_s:.1f} s"
    yield "errors", f"{summary.errors:,}" + (f" ({kinds})" if kinds else "")
    yield "hit rate", percent(summary.hit_percent) + " of prompt tokens, as the engines counted them"
    yield "predicted", _predicted(summary)
    yield "TTFT", spread(summary.ttft_ms) + ", from the scheduled arrival"
    yield "TPOT", spread(summary.tpot_ms)
    yield (
        "throughput",
        f"{summary.requests_per_s:.2f} requests/s, {summary.prompt_tokens_per_s:,.0f} prompt tokens/s, "
        f"{summary.output_tokens_per_s:,.0f} output tokens/s",
    )
    yield "client lateness", f"p99 {milliseconds(summary.client_lateness_p99_ms)}"


def _predicted(summary: Summary) -> str:
    predictions = summary.predictions
    if predictions is None:
        return "unknown: the router's admin endpoint was not asked or did not answer (--admin-url, --admin-token-file)"
    return (
        f"{percent(predictions.hit_percent)}; equal to the engine's count in whole blocks on "
        f"{percent(predictions.equal_percent)} of {predictions.requests:,} requests"
    )


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def spread(value: Spread | None) -> str:
    if value is None:
        return "-"
    parts = (value.p50, value.p90, value.p99, value.mean)
    return "p50 {}, p90 {}, p99 {}, mean {}".format(*map(milliseconds, parts))

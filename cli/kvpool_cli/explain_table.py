"""Decisions as tables: for each request what every engine was expected to cost, and how it turned out."""

from collections.abc import Iterator, Sequence

from kvpool_api.wire import CandidateCost, Decision
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvpool_cli.view import UNKNOWN

SHOWN_CANDIDATES = 5
CHOSEN = "→"


def explained(pool: str, decisions: Sequence[Decision], *, whole: bool, title: str = "") -> Iterator[RenderableType]:
    """A head line, a table and an outcome for each; `whole` shows every engine, else the cheapest few. `title` stands
    for the pool's name where that is not enough.

    Columns of one width through all tables, so that they read as one. Costs in milliseconds of expected delay.
    """
    parts = list(dict.fromkeys(name for each in decisions for costs in each.candidates for name in costs.parts_s))
    widest = max((len(_name(pool, costs)) for each in decisions for costs in each.candidates), default=0)
    for decision in decisions:
        yield Text(f"{title or pool}  {_head(decision)}", style="bold")
        if decision.candidates:
            yield _table(pool, decision, parts, widest, whole=whole)
        yield from map(Text, _turned_out(pool, decision))
        yield Text()


def _head(decision: Decision) -> str:
    tokens = "a prompt that could not be tokenized"
    if decision.prompt_tokens is not None:
        tokens = f"{decision.prompt_tokens:,} prompt tokens"
    return f"{decision.time}  {decision.request_id}  {decision.path}  {tokens}"


def _table(pool: str, decision: Decision, parts: Sequence[str], widest: int, *, whole: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", width=1)
    table.add_column("engine", no_wrap=True, min_width=widest)
    sums = [f"{'+' if at else '='} {part}" for at, part in enumerate(parts)]
    for name in ("cost ms", *sums, "cached", "predicted"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    ordered = sorted(decision.candidates, key=lambda costs: costs.cost_s)
    shown = [costs for at, costs in enumerate(ordered) if whole or at < SHOWN_CANDIDATES or _is_chosen(decision, costs)]
    for costs in shown:
        chosen = _is_chosen(decision, costs)
        cells = (_ms(costs.cost_s), *(_part(costs, part) for part in parts))
        tokens = (f"{costs.cached_tokens:,}", f"{costs.predicted_tokens:,}")
        name = _name(pool, costs)
        table.add_row(CHOSEN if chosen else "", name, *cells, *tokens, style="green" if chosen else "")
    if len(shown) < len(ordered):
        table.add_row("", f"and {len(ordered) - len(shown)} more")
    return table


def _turned_out(pool: str, decision: Decision) -> Iterator[str]:
    """Where it went and why, then what came of it."""
    if decision.pod is None:
        yield f"{CHOSEN} no engine took it: {decision.reason or decision.outcome}"
        return
    where = _place(pool, decision.pod, decision.dp_rank or 0)
    strategy = decision.strategy.value
    yield f"{CHOSEN} {where} by {strategy}{f': {decision.reason}' if decision.reason else ''}{_margin(pool, decision)}"
    tries = f", {decision.attempts} attempts" if decision.attempts > 1 else ""
    expected, found = _count(decision.predicted_cached_tokens), _count(decision.cached_tokens)
    wait = _wait(decision.ttft_ms)
    yield f"  cached tokens: {expected} expected, {found} found; TTFT {wait}; {decision.outcome}{tries}"


def _margin(pool: str, decision: Decision) -> str:
    """How much dearer the next best engine was."""
    mine = next((costs.cost_s for costs in decision.candidates if _is_chosen(decision, costs)), None)
    others = [costs for costs in decision.candidates if not _is_chosen(decision, costs)]
    if mine is None or not others:
        return ""
    other = min(others, key=lambda costs: costs.cost_s)
    dearer = _ms(abs(other.cost_s - mine))
    if dearer == _ms(0):
        return f"; {_name(pool, other)} would have cost the same"
    return f"; {_name(pool, other)} was {dearer} ms {'dearer' if other.cost_s > mine else 'cheaper'}"


def _is_chosen(decision: Decision, costs: CandidateCost) -> bool:
    return (costs.pod, costs.dp_rank) == (decision.pod, decision.dp_rank)


def _name(pool: str, costs: CandidateCost) -> str:
    return _place(pool, costs.pod, costs.dp_rank)


def _place(pool: str, pod: str, dp_rank: int) -> str:
    name = pod.removeprefix(f"{pool}-")
    return name if dp_rank == 0 else f"{name} rank {dp_rank}"


def _part(costs: CandidateCost, part: str) -> str:
    return _ms(costs.parts_s[part]) if part in costs.parts_s else UNKNOWN


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f}"


def _wait(wait_ms: float | None) -> str:
    return UNKNOWN if wait_ms is None else f"{wait_ms:,.0f} ms"


def _count(tokens: int | None) -> str:
    return UNKNOWN if tokens is None else f"{tokens:,}"

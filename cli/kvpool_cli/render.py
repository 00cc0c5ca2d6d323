"""Views of pools as rich tables and as plain lines."""

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from kvpool_cli.view import UNKNOWN, PoolView, Served, WorkerLine

STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow", "failing": "red", "EXACT": "green"}
COLUMNS = (
    *("engine", "state", "events", "blocks", "hit\n%", "predicted\n%"),
    *("run-\nning", "wait-\ning", "TTFT\np50 ms", "\np90 ms"),
)
NUMBERS_FROM = 3
MOST_CAUSES = 3
PIPE_WIDTH = 160
"""Where no terminal says how wide it is."""


def console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """Where views are printed: as wide as the terminal, or wide enough for a pipe."""
    plain = Console(quiet=quiet, stderr=stderr)
    return plain if plain.is_terminal else Console(quiet=quiet, stderr=stderr, width=PIPE_WIDTH)


def live_table(view: PoolView, title: str = "") -> RenderableType:
    """One table a pool, 80 columns wide: a line a worker (without the pool's name), its sums below, WHY under it.

    `title` stands for the pool's name where that is not enough.
    """
    table = Table(title=_title(view, title or view.name), title_justify="left", box=box.SIMPLE, padding=0)
    for place, name in enumerate(COLUMNS):
        widest = max((len(word) for word in name.split("\n")), default=0)
        justify: JustifyMethod = "right" if place >= NUMBERS_FROM else "left"
        table.add_column(name, justify=justify, no_wrap=True, min_width=widest if place else None)
    for line in view.workers:
        name, *cells = _cells(line)
        table.add_row(name.removeprefix(f"{view.name}-"), *(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    table.add_section()
    queue = UNKNOWN if view.queue is None else str(view.queue)
    shares, waits = _shares(view.served), _waits(view.served)
    table.add_row("all, 5 min", "", "", "", *shares, "", queue, *waits, style="bold")
    return Group(table, *(Text(line, style=style) for line, style in _below(view)))


def _below(view: PoolView) -> Iterator[tuple[str, str]]:
    """Lines under the table, each with its style."""
    if view.requests:
        some = "request" if view.requests == 1 else "requests"
        yield f"{view.requests:,} {some} in 5 min, {view.errors:,} failed", "red" if view.errors else ""
    if view.why:
        yield view.why, "yellow"
    yield from ((cause, "yellow") for cause in view.causes[:MOST_CAUSES])
    if len(view.causes) > MOST_CAUSES:
        yield f"and {len(view.causes) - MOST_CAUSES} more", "yellow"


def _title(view: PoolView, name: str) -> Text:
    state = Text(view.standing, style="bold green" if view.standing == "ready" else "bold yellow")
    return Text.assemble(f"{name}  ", state, f"  {view.url}")


def _cells(line: WorkerLine) -> tuple[str, ...]:
    counts = (_count(line.running), _count(line.waiting))
    return (
        line.name,
        line.state,
        line.events,
        _count(line.blocks),
        *_shares(line.served),
        *counts,
        *_waits(line.served),
    )


def plain_line(view: PoolView) -> str:
    """One line that says how the pool is, for logs and pipes."""
    states = ", ".join(f"{line.name} {line.state} {line.events}" for line in view.workers) or "no engines yet"
    hit, predicted = _shares(view.served)
    state = f"{view.standing}: {view.why}" if view.why else view.standing
    failed = f", {view.errors:,} of {view.requests:,} requests failed" if view.errors else ""
    return f"{view.name}: {state} | {states} | hit {hit} %, predicted {predicted} %{failed}"


def status_report(view: PoolView, title: str = "") -> Iterator[RenderableType]:
    """All there is to know about a pool, for `kvpool status`. `title` as in `live_table`."""
    yield live_table(view, title)
    if view.tokenizer:
        yield Text(f"tokenizer: {view.tokenizer}")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("condition", "status", "reason", "message"):
        table.add_column(name, no_wrap=name != "message")
    for found in view.conditions:
        table.add_row(found.type, found.status, found.reason, found.message)
    yield table


def all_tables(views: Iterable[PoolView]) -> RenderableType:
    return Group(*map(live_table, views))


def _shares(served: Served) -> tuple[str, str]:
    return _figure(served.hit_percent), _figure(served.predicted_percent)


def _waits(served: Served) -> tuple[str, str]:
    return _milliseconds(served.ttft_p50_ms), _milliseconds(served.ttft_p90_ms)


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"

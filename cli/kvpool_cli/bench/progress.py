"""A progress bar a run, redrawn until all are done."""

import asyncio
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kvpool_cli.bench.open_loop import Tally

REDRAW_S = 0.5


async def show_progress(tallies: Mapping[str, Tally], done: asyncio.Event, console: Console) -> None:
    """Draws only where the console is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ended, {task.fields[sent]} sent, {task.fields[open]} in flight"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        bars = {name: progress.add_task(name, total=tally.planned, sent=0, open=0) for name, tally in tallies.items()}
        ended = False
        while not ended:
            ended = done.is_set()
            await asyncio.sleep(0.0 if ended else REDRAW_S)
            for name, tally in tallies.items():
                progress.update(bars[name], completed=len(tally.outcomes), sent=tally.sent, open=tally.in_flight)
            progress.refresh()

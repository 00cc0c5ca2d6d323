"""`kvpool bench`, from options to report."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kvpool_cli.bench.chosen_load import token_ids_of, workload_of
from kvpool_cli.bench.open_loop import Tally, run
from kvpool_cli.bench.options import LoadOptions, ReportOptions, SharedPrefixOptions, TargetOptions, TraceOptions
from kvpool_cli.bench.plot import checked_path, plot_run
from kvpool_cli.bench.predictions import DecisionReader, Predictions
from kvpool_cli.bench.progress import show_progress
from kvpool_cli.bench.report import as_json, as_table
from kvpool_cli.bench.summary import Summary, summarize
from kvpool_cli.bench.target import Destination, resolve
from kvpool_cli.bench.token_ids import Bodies, TokenIds
from kvpool_cli.bench.workload import Workload
from kvpool_cli.errors import FAILED, INTERRUPTED


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Of `trace` and `profile` only that may be set which `load` chooses."""

    load: LoadOptions
    trace: TraceOptions
    profile: SharedPrefixOptions
    target: TargetOptions
    report: ReportOptions
    run_folder: Path


def bench(options: BenchOptions) -> int:
    """Runs the load, prints the report, and returns the exit code: 1 when more requests failed than may."""
    plot = None if options.report.plot is None else checked_path(options.report.plot)
    workload, ids = workload_of(options.load, options.trace, options.profile), token_ids_of(options.load)
    report, console = Console(), Console(stderr=True)
    destination = asyncio.run(resolve(options.target, options.run_folder))
    console.print(_beginning(workload, destination), highlight=False, soft_wrap=True)
    measured = Measured(Tally(len(workload.requests)))
    try:
        asyncio.run(_watched(measured, measured.run(workload, ids, destination), console))
    except KeyboardInterrupt:
        console.print("interrupted; what had ended by then:")
    if measured.trouble is not None:
        console.print(f"predictions are incomplete: {measured.trouble}", highlight=False)
    outcomes = measured.tally.outcomes
    summary = summarize(outcomes, measured.predictions)
    if options.report.as_json:
        print(as_json(summary, workload.origin))  # noqa: T201 - for machines, so past rich's wrapping
    else:
        report.print(as_table(summary, workload.origin))
    if plot is not None:
        plot_run(plot, outcomes, workload.origin)
    if len(outcomes) < measured.tally.planned:
        return INTERRUPTED
    return _verdict(summary, options.report.max_error_rate, console)


def _beginning(workload: Workload, destination: Destination) -> str:
    """The load itself is described once, by the report."""
    requests, seconds = len(workload.requests), workload.last_arrival_s
    return f"{requests:,} requests within {seconds:,.1f} s to {destination.target.url}"


def _verdict(summary: Summary, max_error_rate: float, console: Console) -> int:
    failed = 100 * summary.errors / summary.requests
    if failed <= max_error_rate:
        return 0
    console.print(
        f"{summary.errors:,} of {summary.requests:,} requests failed, {failed:.3g} %; "
        f"--max-error-rate allows {max_error_rate:g} %",
        highlight=False,
        soft_wrap=True,
    )
    return FAILED


async def _watched(measured: "Measured", work: Awaitable[None], console: Console) -> None:
    done = asyncio.Event()
    async with asyncio.TaskGroup() as beside:
        beside.create_task(show_progress({"": measured.tally}, done, console))
        try:
            await work
        finally:
            done.set()


class Measured:
    """A run and what it has shown so far, kept when it is interrupted."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.predictions: Predictions | None = None
        self.trouble: str | None = None

    async def run(self, workload: Workload, ids: TokenIds, destination: Destination) -> None:
        """Sends everything, and reads the router's decisions on the way."""
        target, done = destination.target, asyncio.Event()
        reader = None if destination.admin is None else DecisionReader(destination.admin, target.run_id)
        async with asyncio.TaskGroup() as beside:
            if reader is not None:
                beside.create_task(reader.follow(lambda: self.tally.sent, done))
            try:
                await run(workload, Bodies(target.model, ids), target, self.tally)
            finally:
                done.set()
        if reader is not None:
            self.predictions, self.trouble = reader.predictions(), reader.trouble

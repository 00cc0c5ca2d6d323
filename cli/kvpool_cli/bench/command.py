"""`kvpool bench`, from options to report."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kvpool_cli.bench.mooncake import Cut, replay
from kvpool_cli.bench.open_loop import Tally, run
from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.plot import checked_path, plot_run
from kvpool_cli.bench.predictions import DecisionReader, Predictions
from kvpool_cli.bench.progress import show_progress
from kvpool_cli.bench.report import as_json, as_table
from kvpool_cli.bench.summary import summarize
from kvpool_cli.bench.target import Destination, TargetOptions, resolve
from kvpool_cli.bench.token_ids import RESERVED_IDS, Bodies, TokenIds
from kvpool_cli.bench.workload import SharedPrefix, Workload, shared_prefix
from kvpool_cli.errors import INTERRUPTED, UserError

LEAST_VOCABULARY = RESERVED_IDS + 1000


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Either `trace` with `cut`, or `profile`: never both."""

    target: TargetOptions
    trace: Path | None
    cut: Cut
    profile: SharedPrefix | None
    seed: int
    vocabulary: int
    as_json: bool
    plot: Path | None


def bench(options: BenchOptions) -> int:
    """Runs the load, prints the report, and returns the exit code: 1 when every request failed."""
    plot = None if options.plot is None else checked_path(options.plot)
    workload, ids = workload_of(options), _token_ids(options.vocabulary)
    report, console = Console(), Console(stderr=True)
    destination = asyncio.run(resolve(options.target))
    console.print(
        f"{workload.origin}\n{len(workload.requests):,} requests to {destination.target.url}", highlight=False
    )
    measured = Measured(Tally(len(workload.requests)))
    try:
        asyncio.run(_watched(measured, measured.run(workload, ids, destination), console))
    except KeyboardInterrupt:
        console.print("interrupted; what had ended by then:")
    if measured.trouble is not None:
        console.print(f"predictions are incomplete: {measured.trouble}", highlight=False)
    outcomes = measured.tally.outcomes
    summary = summarize(outcomes, measured.predictions)
    if options.as_json:
        print(as_json(summary, workload.origin))  # noqa: T201 - for machines, so past rich's wrapping
    else:
        report.print(as_table(summary, workload.origin))
    if plot is not None:
        plot_run(plot, outcomes, workload.origin)
    return _exit_code(outcomes, measured.tally)


async def _watched(measured: "Measured", work: Awaitable[None], console: Console) -> None:
    done = asyncio.Event()
    async with asyncio.TaskGroup() as beside:
        beside.create_task(show_progress({"": measured.tally}, done, console))
        try:
            await work
        finally:
            done.set()


def _exit_code(outcomes: list[Outcome], tally: Tally) -> int:
    if len(outcomes) < tally.planned:
        return INTERRUPTED
    return 0 if any(outcome.error is None for outcome in outcomes) else 1


def workload_of(options: BenchOptions) -> Workload:
    if options.trace is not None and options.profile is not None:
        raise UserError("--trace and --profile name two loads; leave one out")
    if options.trace is not None:
        return replay(options.trace, options.cut, options.seed)
    assert options.profile is not None  # noqa: S101 - for the type checker
    return shared_prefix(options.profile, options.seed)


def _token_ids(vocabulary: int) -> TokenIds:
    if vocabulary < LEAST_VOCABULARY:
        raise UserError(f"--vocabulary {vocabulary}: must be at least {LEAST_VOCABULARY}, or prompts would be alike")
    return TokenIds(vocabulary)


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

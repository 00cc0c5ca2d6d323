"""`make demo`: real traffic through round robin and through cache-aware routing, side by side.

    python -m kvpool_cli.demo [--quick] [--in-turn]

Everything runs in this process tree: for each load two pools of four simulated engines in real time, with the timing of
H100s, each behind its own router. `--quick` runs a tenth of each load: a look at the machinery, no measurement.
`--in-turn` loads the two pools of a comparison one after the other, which takes twice as long and halves what they ask
of this machine.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from kvpool_api.crd import custom_resource_definition
from kvpool_api.spec import Strategy
from kvpool_api.validation import Admission
from rich.console import Console

from kvpool_cli.bench.command import Measured
from kvpool_cli.bench.open_loop import Tally, Target
from kvpool_cli.bench.plot import plot_comparison
from kvpool_cli.bench.predictions import AdminAccess
from kvpool_cli.bench.progress import show_progress
from kvpool_cli.bench.summary import summarize
from kvpool_cli.bench.target import Destination
from kvpool_cli.bench.token_ids import TokenIds
from kvpool_cli.bench.workload import Workload
from kvpool_cli.demo_report import Comparison, Run, as_json, as_table, by_panel, legend
from kvpool_cli.demo_scenarios import LABELS, STRATEGIES, Scenario, manifest, scenarios
from kvpool_cli.errors import INTERRUPTED, UserError
from kvpool_cli.ports import first_free
from kvpool_cli.step_lateness import step_lateness_p99_ms
from kvpool_cli.up.engines import programs
from kvpool_cli.up.pools import LocalPool, LocalPools, Setting
from kvpool_cli.up.session import running_pools

FOLDER = Path(".kvpool")
READY_WITHIN_S = 60.0
QUICK_SCALE = 0.1
FIRST_PORT = 18_000
VOCABULARY = 4000
WORDS = ("--quick", "--in-turn")


@dataclass(frozen=True, slots=True)
class Demo:
    """Runs the comparisons one after another; the two pools of one comparison take turns unless `together`."""

    console: Console
    folder: Path
    together: bool

    async def run(self, chosen: Sequence[Scenario]) -> list[Comparison]:
        return [await self._compared(scenario, place, len(chosen)) for place, scenario in enumerate(chosen, start=1)]

    async def _compared(self, scenario: Scenario, place: int, of: int) -> Comparison:
        workload = scenario.workload()
        self.console.print(
            f"[bold]{place} of {of}: {scenario.title}[/bold] ({workload.origin})", highlight=False, soft_wrap=True
        )
        async with self._pools(scenario) as local:
            since = time.monotonic()
            await local.until_ready(READY_WITHIN_S)
            took = time.monotonic() - since
            self.console.print(
                f"  two pools of four engines are ready after {took:.1f} s; {self._lasts(workload)}", soft_wrap=True
            )
            measured = await self._measured(workload, local)
            runs = [
                Run(
                    scenario,
                    strategy,
                    workload.origin,
                    measured[strategy].tally.outcomes,
                    summarize(measured[strategy].tally.outcomes, measured[strategy].predictions),
                    await step_lateness_p99_ms(local.http, await local.engine_urls(pool)),
                )
                for strategy, pool in zip(STRATEGIES, local.pools, strict=True)
            ]
        return Comparison(*runs)

    def _lasts(self, workload: Workload) -> str:
        turns = "both at once" if self.together else "one after the other"
        return f"{workload.last_arrival_s:.0f} s of load through each, {turns}"

    def _pools(self, scenario: Scenario) -> AbstractAsyncContextManager[LocalPools]:
        manifests = [manifest(scenario, strategy) for strategy in STRATEGIES]
        images, admission = programs("sim", None, []), Admission(custom_resource_definition())
        setting = Setting(admission, images, "sim", "make demo", first_free(FIRST_PORT, 4), self.folder / "demo-run")
        return running_pools(manifests, setting)

    async def _measured(self, workload: Workload, local: LocalPools) -> dict[Strategy, Measured]:
        measured = {strategy: Measured(Tally(len(workload.requests))) for strategy in STRATEGIES}
        done, ids = asyncio.Event(), TokenIds(VOCABULARY)
        tallies = {f"  {LABELS[strategy]}": run.tally for strategy, run in measured.items()}
        async with asyncio.TaskGroup() as beside:
            beside.create_task(show_progress(tallies, done, self.console))
            runs = [
                measured[strategy].run(workload, ids, destination(pool))
                for strategy, pool in zip(STRATEGIES, local.pools, strict=True)
            ]
            await (asyncio.gather(*runs) if self.together else _one_by_one(runs))
            done.set()
        return measured


async def _one_by_one(runs: Sequence[Coroutine[None, None, None]]) -> None:
    for run in runs:
        await run


def destination(pool: LocalPool) -> Destination:
    admin = AdminAccess(pool.door.admin_url, pool.door.token, pool.pool.spec.engine.block_size)
    return Destination(Target(pool.door.url, pool.pool.spec.model.name), admin)


def introduction(chosen: Sequence[Scenario], together: bool) -> str:
    seconds = sum(scenario.workload().last_arrival_s for scenario in chosen) * (1 if together else 2)
    return (
        "kvpool demo: the same real traffic through round_robin and through cache_aware routing.\n"
        "Engines are simulated in real time with the timing of H100s; router, KV events, HTTP and processes are real.\n"
        f"It takes about {seconds / 60 + 1:.0f} minutes; the table and a plot come at the end."
    )


def main(words: Sequence[str]) -> int:
    if unknown := [word for word in words if word not in WORDS]:
        raise UserError(f"{unknown[0]} is not known; the options are {' and '.join(WORDS)}")
    console, begun = Console(), time.monotonic()
    chosen = scenarios(QUICK_SCALE if "--quick" in words else 1.0)
    demo = Demo(console, FOLDER, together="--in-turn" not in words)
    console.print(introduction(chosen, demo.together), highlight=False, soft_wrap=True)
    return _report(console, asyncio.run(demo.run(chosen)), begun)


def _report(console: Console, comparisons: Sequence[Comparison], begun: float) -> int:
    duration_s = time.monotonic() - begun
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "demo.json").write_text(json.dumps(as_json(comparisons, duration_s), indent=2) + "\n")
    plot_comparison(FOLDER / "demo.png", by_panel(comparisons))
    console.print(as_table(comparisons), legend(), "")
    console.print(
        f"{duration_s:.0f} s; plot in {FOLDER}/demo.png, figures in {FOLDER}/demo.json", highlight=False, soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"kvpool demo: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

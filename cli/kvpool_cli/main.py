"""The `kvpool` command (also `kubectl kvpool`). What a subcommand needs is imported when it runs, so help is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from kvpool_cli.bench.options import LoadOptions, ReportOptions, SharedPrefixOptions, TargetOptions, TraceOptions
from kvpool_cli.errors import INTERRUPTED, UserError
from kvpool_cli.option_groups import SectionedCommand, grouped

app = typer.Typer(
    name="kvpool",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Cache-aware pools of vLLM engines, described by inferencepools.kvpool.dev.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML with one or more InferencePools.", show_default=False)]
RunFolderOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KVPOOL_RUN_FOLDER",
        help="Where running pools are recorded.",
        show_default="XDG_RUNTIME_DIR/kvpool, else /tmp/kvpool-UID",
    ),
]


@app.command()
def up(
    file: File,
    engine: Annotated[Literal["sim", "vllm"], typer.Option(help="Simulated engines, or real vLLM here.")] = "sim",
    port: Annotated[int, typer.Option(min=1024, max=65000, help="First port; each pool takes two.")] = 8000,
    once_ready: Annotated[
        str | None, typer.Option(metavar="CMD", help="When ready, run CMD with KVPOOL_URL set, then stop.")
    ] = None,
    live: Annotated[bool, typer.Option(help="A live table, where stdout is a terminal.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    timeout: Annotated[int | None, typer.Option(min=1, help="Seconds until ready; exit 1 when they are over.")] = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(envvar="KVPOOL_VLLM_PYTHON", help="Python that has vLLM, for --engine vllm.", show_default=False),
    ] = None,
    run_folder: RunFolderOption = None,
) -> None:
    """Run the pools of FILE on this machine until Ctrl-C."""
    from kvpool_cli.up.command import UpOptions, up
    from kvpool_cli.up.show import Shown

    shown: Shown = "quiet" if quiet else "live" if live else "lines"
    raise typer.Exit(up(UpOptions(file, engine, port, once_ready, shown, timeout, vllm_python, _given(run_folder))))


@app.command()
def status(
    pool: Annotated[str | None, typer.Argument(metavar="POOL", show_default=False)] = None,
    run_folder: RunFolderOption = None,
) -> None:
    """Say how the pools that `kvpool up` runs here are doing, and why. Exit 0: ready, 1: not, 2: there is none."""
    from kvpool_cli.status import status

    raise typer.Exit(status(pool, _given(run_folder)))


@app.command(cls=SectionedCommand)
@grouped
def bench(
    load: LoadOptions,
    trace: TraceOptions,
    profile: SharedPrefixOptions,
    target: TargetOptions,
    report: ReportOptions,
) -> None:
    """Send load to a pool and report hit rate, TTFT, TPOT, throughput and errors.

    Requests leave when they are due, however slow the answers are, and TTFT counts from then (open-loop load).

    Exit 0: done. 1: more requests failed than --max-error-rate allows, or the pool does not answer. 2: the options are
    at fault, and nothing was sent.
    """
    from kvpool_cli.bench.command import BenchOptions, bench

    raise typer.Exit(bench(BenchOptions(load, trace, profile, target, report, _given(target.run_folder))))


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    from kvpool_api.crd import render

    typer.echo(render(), nl=False)


@app.command()
def version() -> None:
    """Print the release."""
    from importlib.metadata import version

    typer.echo(f"kvpool {version('kvpool')}")


def _given(run_folder: Path | None) -> Path:
    """The folder, or the user's own: the same one in every terminal."""
    from tempfile import gettempdir

    from kvpool_cli.run_place import default_run_folder

    return run_folder or default_run_folder(os.environ, Path(gettempdir()), os.getuid())


def run() -> NoReturn:
    """Entry point: every error of a user becomes one line and an exit code."""
    name = "kubectl kvpool" if Path(sys.argv[0]).name == "kubectl-kvpool" else "kvpool"
    try:
        app(prog_name=name)
    except UserError as error:
        typer.echo(f"{name}: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(0)


if __name__ == "__main__":
    run()

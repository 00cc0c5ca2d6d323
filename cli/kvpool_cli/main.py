"""The `kvpool` command (also `kubectl kvpool`). What a subcommand needs is imported when it runs, so help is quick."""

import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kvpool_cli.bench.options import LoadOptions, ReportOptions, SharedPrefixOptions, TargetOptions, TraceOptions
from kvpool_cli.errors import INTERRUPTED, UserError
from kvpool_cli.option_groups import SectionedCommand, grouped
from kvpool_cli.place_options import PlaceOptions, PoolArgument, ReadOptions, RequestOptions
from kvpool_cli.up.options import RunOptions, ShowOptions

if TYPE_CHECKING:
    from kvpool_cli.places import Place

PLUGIN = "kubectl-kvpool"

app = typer.Typer(
    name="kvpool",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Run pools of vLLM engines behind a router that knows which engine has cached which prompt.

    A pool is a YAML file of kind InferencePool (inferencepools.kvpool.dev). To begin, in kvpool's repository, without a
    GPU or a cluster:

    \b
      kvpool up examples/conversation.yaml
      kvpool status                           (in another terminal)
      kvpool bench --rate 5 --seconds 20
      kvpool explain
    """,
)


def _version_asked(asked: bool) -> None:
    if asked:
        _print_version()
        raise typer.Exit


@app.callback()
def kvpool(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version_asked, is_eager=True, help="Print the release and exit."),
    ] = False,
) -> None:
    """What is the same for all commands; the help is the app's."""


@app.command(cls=SectionedCommand, short_help="Run pools on this machine.")
@grouped
def up(run: RunOptions, show: ShowOptions) -> None:
    """Run the pools of FILE on this machine until Ctrl-C, as a cluster would run them.

    Engines and routers are processes here. Each pool answers as an OpenAI server; how it does is shown, and changes of
    FILE are applied while it runs.

    Exit 1: the pools could not run or were not ready in time. 2: FILE or an option is at fault, nothing was started.
    130: after Ctrl-C. With --once-ready: what CMD exits with.
    """
    from kvpool_cli.up.command import UpOptions, up

    options = UpOptions(
        file=run.file,
        engine=run.engine,
        port=run.port,
        once_ready=run.once_ready,
        shown=show.shown,
        timeout_s=run.timeout_s,
        vllm_python=run.vllm_python,
        run_folder=_given(run.run_folder),
        status_command=_status_of(run.run_folder),
    )
    raise typer.Exit(up(options))


@app.command(cls=SectionedCommand, short_help="Say how pools are doing, and why.")
@grouped
def status(pool: PoolArgument, read: ReadOptions, where: PlaceOptions) -> None:
    """Say how pools are doing, and why: those that `kvpool up` runs here, or those of a cluster.

    Exit 0: all are ready. 1: one is not, or the cluster does not answer. 2: there is none.
    """
    from kvpool_cli.status import status

    raise typer.Exit(status(pool.pool, _place(where), as_json=read.as_json))


@app.command(cls=SectionedCommand, short_help="Say why requests went to the engines they went to.")
@grouped
def explain(request: RequestOptions, read: ReadOptions, where: PlaceOptions) -> None:
    """Say why requests went to the engines they went to.

    For each request: what every engine was expected to cost (in milliseconds of delay to it and to others), what of
    its prompt was cached there, which engine was chosen, and how it turned out.

    Exit 0: told. 1: no such request is remembered, or no router answers. 2: there is no such pool.
    """
    from kvpool_cli.explain import Asked, explain

    asked = Asked(request.request, request.pool, request.last, read.as_json)
    raise typer.Exit(explain(asked, _place(where)))


@app.command(cls=SectionedCommand, short_help="Send load to a pool and report hit rate, latency and errors.")
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


@app.command(cls=SectionedCommand, short_help="Print the CustomResourceDefinition of InferencePool.")
def crd() -> None:
    """Print the CustomResourceDefinition inferencepools.kvpool.dev as YAML.

    A cluster learns the kind InferencePool by: kvpool crd | kubectl apply -f -
    """
    from kvpool_api.crd import render

    typer.echo(render(), nl=False)


@app.command(cls=SectionedCommand)
def version() -> None:
    """Print the release of kvpool."""
    _print_version()


def _print_version() -> None:
    from importlib.metadata import version

    typer.echo(f"kvpool {version('kvpool')}")


def _place(options: PlaceOptions) -> "Place":
    from kvpool_cli.places import place

    return place(options, os.environ, os.getuid(), is_plugin=_is_plugin())


def _is_plugin() -> bool:
    """Plugins are run by their own name."""
    return Path(sys.argv[0]).name == PLUGIN


def _status_of(run_folder: Path | None) -> str:
    """What to type in any folder to see a run of this one."""
    return "kvpool status" if run_folder is None else f"kvpool status --run-folder {quote(str(run_folder.absolute()))}"


def _given(run_folder: Path | None) -> Path:
    """The folder, or the user's own: the same one in every terminal."""
    from tempfile import gettempdir

    from kvpool_cli.run_place import default_run_folder

    return run_folder or default_run_folder(os.environ, Path(gettempdir()), os.getuid())


def run() -> NoReturn:
    """Entry point: every error of a user becomes one line and an exit code."""
    name = "kubectl kvpool" if _is_plugin() else "kvpool"
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

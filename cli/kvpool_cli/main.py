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
    help="""Run pools of vLLM engines behind a router that knows which engine has cached which prompt.

    A pool is a YAML file of kind InferencePool (inferencepools.kvpool.dev). To begin, in kvpool's repository, without a
    GPU or a cluster:

    \b
      kvpool up examples/conversation.yaml
      kvpool status                           (in another terminal)
      kvpool bench --rate 5 --seconds 20
    """,
)

RunFolderOption = Annotated[
    Path | None,
    typer.Option(
        envvar="KVPOOL_RUN_FOLDER",
        help="Where `up` records running pools and their logs, and `status` and `bench` find them.",
        show_default="XDG_RUNTIME_DIR/kvpool, else /tmp/kvpool-UID",
    ),
]


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
def up(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="YAML with one or more InferencePools, such as those in examples/ of kvpool's repository.",
            show_default=False,
        ),
    ],
    engine: Annotated[
        Literal["sim", "vllm"],
        typer.Option(help="sim: simulated engines, which need no GPU. vllm: real vLLM, which must be installed."),
    ] = "sim",
    port: Annotated[
        int,
        typer.Option(
            min=1024,
            max=65000,
            help="The first pool answers here, its router's admin endpoint one above; the next pool two above.",
        ),
    ] = 8000,
    once_ready: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            help="When all pools are ready, run this shell command, then end. It finds the first pool by KVPOOL_URL, "
            "KVPOOL_MODEL and, for its router, KVPOOL_ADMIN_URL and KVPOOL_ADMIN_TOKEN_FILE.",
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option(help="A table that is redrawn, where stdout is a terminal; or a line a change.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    timeout: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="SECONDS", help="Give up when the pools are not ready by then.", show_default="none"
        ),
    ] = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(
            envvar="KVPOOL_VLLM_PYTHON",
            help="With --engine vllm: the python that has vLLM.",
            show_default="the one that runs kvpool",
        ),
    ] = None,
    run_folder: RunFolderOption = None,
) -> None:
    """Run the pools of FILE on this machine until Ctrl-C, as a cluster would run them.

    Engines and routers are processes here. Each pool answers as an OpenAI server; how it does is shown, and changes of
    FILE are applied while it runs.

    Exit 1: the pools could not run or were not ready in time. 2: FILE or an option is at fault, nothing was started.
    130: after Ctrl-C. With --once-ready: what CMD exits with.
    """
    from kvpool_cli.up.command import UpOptions, up

    options = UpOptions(
        file=file,
        engine=engine,
        port=port,
        once_ready=once_ready,
        shown="quiet" if quiet else "live" if live else "lines",
        timeout_s=timeout,
        vllm_python=vllm_python,
        run_folder=_given(run_folder),
    )
    raise typer.Exit(up(options))


@app.command(cls=SectionedCommand, short_help="Say how the pools that run here are doing, and why.")
def status(
    pool: Annotated[
        str | None,
        typer.Argument(metavar="POOL", help="The name of one pool; without it, all.", show_default=False),
    ] = None,
    run_folder: RunFolderOption = None,
) -> None:
    """Say how the pools that `kvpool up` runs here are doing, and why.

    Exit 0: all are ready. 1: one is not. 2: there is none.
    """
    from kvpool_cli.status import status

    raise typer.Exit(status(pool, _given(run_folder)))


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

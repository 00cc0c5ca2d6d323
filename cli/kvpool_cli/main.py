"""The `kvpool` command (also `kubectl kvpool`). What a subcommand needs is imported when it runs, so help is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from kvpool_cli.errors import INTERRUPTED, UserError

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


@app.command()
def bench(
    trace: Annotated[Path | None, typer.Option(help="Mooncake-format trace to replay.", show_default=False)] = None,
    profile: Annotated[
        Literal["shared-prefix"] | None, typer.Option(help="Generated load; the default without --trace.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Trace: its first seconds; else 60.")] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="Trace: how many times its speed.")] = 1.0,
    groups: Annotated[int, typer.Option(min=1, help="Profile: prompts of a group share a prefix.")] = 75,
    prompts_per_group: Annotated[int, typer.Option(min=1)] = 5,
    system_tokens: Annotated[int, typer.Option(min=1, help="Profile: shared tokens of a prompt.")] = 6000,
    question_tokens: Annotated[int, typer.Option(min=1, help="Profile: own tokens of a prompt.")] = 1200,
    output_tokens: Annotated[int, typer.Option(min=1)] = 64,
    rate: Annotated[float, typer.Option(min=0.001, help="Profile: requests a second.")] = 9.0,
    arrivals: Annotated[Literal["poisson", "even"], typer.Option()] = "poisson",
    seed: Annotated[int, typer.Option(help="Arrivals and order.")] = 1,
    vocabulary: Annotated[int, typer.Option(help="Prompt token ids stay below this.")] = 4000,
    url: Annotated[str | None, typer.Option(envvar="KVPOOL_URL", help="The pool that runs here, if omitted.")] = None,
    model: Annotated[str | None, typer.Option(envvar="KVPOOL_MODEL", help="The first served, if omitted.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="KVPOOL_API_KEY")] = None,
    admin_url: Annotated[str | None, typer.Option(envvar="KVPOOL_ADMIN_URL", help="Router's admin endpoint.")] = None,
    admin_token_file: Annotated[Path | None, typer.Option(envvar="KVPOOL_ADMIN_TOKEN_FILE")] = None,
    block_size: Annotated[int, typer.Option(min=1, envvar="KVPOOL_BLOCK_SIZE", help="Tokens in a KV block.")] = 16,
    request_timeout: Annotated[float, typer.Option(min=1, help="Seconds for one request.")] = 600.0,
    plot: Annotated[Path | None, typer.Option(help="Plot of TTFT: .png or .svg.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    run_folder: RunFolderOption = None,
) -> None:
    """Send open-loop load and report hit rate, TTFT (from the scheduled arrival), TPOT, throughput and errors."""
    from kvpool_cli.bench.command import BenchOptions, bench
    from kvpool_cli.bench.mooncake import Cut
    from kvpool_cli.bench.target import TargetOptions
    from kvpool_cli.bench.workload import SharedPrefix

    shape = (groups, prompts_per_group, system_tokens, question_tokens, output_tokens)
    generated = (
        SharedPrefix(*shape, rate_per_s=rate, seconds=seconds or 60.0, arrivals=arrivals)
        if profile or not trace
        else None
    )
    target = TargetOptions(
        url, model, admin_url, admin_token_file, block_size, api_key, request_timeout, _given(run_folder)
    )
    cut = Cut(seconds, speed)
    raise typer.Exit(bench(BenchOptions(target, trace, cut, generated, seed, vocabulary, as_json, plot)))


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

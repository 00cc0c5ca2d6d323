"""What `kvpool up` can be told. Imports nothing that is slow, for help comes from here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from typer import Argument, Option

from kvpool_cli.run_folder_option import RunFolder

HIGHEST_PORT = 65_000
"""Of a first pool; above it there is room for its admin endpoint and for further pools."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Which pools, where, and for how long."""

    section: ClassVar[str] = "Options"

    file: Annotated[
        Path,
        Argument(
            metavar="FILE",
            help="YAML with one or more InferencePools, such as those in examples/ of kvpool's repository.",
            show_default=False,
        ),
    ]
    engine: Annotated[
        Literal["sim", "vllm"],
        Option(help="sim: simulated engines, which need no GPU. vllm: real vLLM, which must be installed."),
    ] = "sim"
    port: Annotated[
        int,
        Option(
            min=1024,
            max=HIGHEST_PORT,
            help="The first pool answers here, its router's admin endpoint one above; the next pool two above.",
        ),
    ] = 8000
    once_ready: Annotated[
        str | None,
        Option(
            metavar="CMD",
            help="When all pools are ready, run this shell command, then end. It finds the first pool by KVPOOL_URL, "
            "KVPOOL_MODEL and, for its router, KVPOOL_ADMIN_URL and KVPOOL_ADMIN_TOKEN_FILE.",
        ),
    ] = None
    timeout_s: Annotated[
        int | None,
        Option(
            "--timeout",
            min=1,
            metavar="SECONDS",
            help="Give up when the pools are not ready by then.",
            show_default="none",
        ),
    ] = None
    vllm_python: Annotated[
        Path | None,
        Option(
            envvar="KVPOOL_VLLM_PYTHON",
            help="With --engine vllm: the python that has vLLM.",
            show_default="the one that runs kvpool",
        ),
    ] = None
    run_folder: RunFolder = None


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """How much is said meanwhile."""

    section: ClassVar[str] = "Options"

    live: Annotated[bool, Option(help="A table that is redrawn, where stdout is a terminal; or a line a change.")] = (
        True
    )
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False

    @property
    def shown(self) -> Literal["live", "lines", "quiet"]:
        return "quiet" if self.quiet else "live" if self.live else "lines"

"""Where the commands look for pools. Imports nothing that is slow, for help comes from here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Argument, Option

from kvpool_cli.run_folder_option import RunFolder


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Pools that `kvpool up` runs on this machine, or pools of a cluster."""

    section: ClassVar[str] = "Where to look"

    namespace: Annotated[
        str | None,
        Option("--namespace", "-n", metavar="NAME", help="A cluster's namespace.", show_default="the context's"),
    ] = None
    all_namespaces: Annotated[
        bool | None,
        Option("--all-namespaces", "-A", help="All namespaces of a cluster.", show_default=False),
    ] = None
    context: Annotated[
        str | None,
        Option(metavar="NAME", help="A context of the kubeconfig.", show_default="its current one"),
    ] = None
    kubeconfig: Annotated[
        Path | None,
        Option(metavar="FILE", help="How to reach a cluster.", show_default="KUBECONFIG, else ~/.kube/config"),
    ] = None
    run_folder: RunFolder = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the answer is told."""

    section: ClassVar[str] = "Options"

    as_json: Annotated[bool, Option("--json", help="Print JSON, for programs.")] = False


@dataclass(frozen=True, slots=True)
class PoolArgument:
    """Which pools."""

    section: ClassVar[str] = "Options"

    pool: Annotated[
        str | None,
        Argument(metavar="POOL", help="The name of one pool; without it, all.", show_default=False),
    ] = None


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Which requests."""

    section: ClassVar[str] = "Options"

    request: Annotated[
        str | None,
        Argument(
            metavar="REQUEST_ID",
            help="The x-request-id of an answer, or how it begins; without it, the last requests.",
            show_default=False,
        ),
    ] = None
    pool: Annotated[
        str | None,
        Option("--pool", "-p", metavar="NAME", help="One pool alone.", show_default="all"),
    ] = None
    last: Annotated[int, Option(min=1, max=10_000, help="How many requests, the newest first.")] = 5

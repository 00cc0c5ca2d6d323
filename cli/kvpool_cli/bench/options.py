"""What `kvpool bench` can be told. Imports nothing that is slow, for help comes from here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from typer import Option

from kvpool_cli.bench.workload import Arrivals, SharedPrefix
from kvpool_cli.run_folder_option import RunFolder

USUAL = SharedPrefix()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Which load; neither `trace` nor `profile` means the profile."""

    section: ClassVar[str] = "Load, by --trace or by --profile"

    trace: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Replay this trace, in Mooncake's format: a JSON object a line with timestamp (ms), "
            "input_length, output_length, hash_ids (one a block of 512 tokens).",
            show_default=False,
        ),
    ] = None
    profile: Annotated[
        Literal["shared-prefix"] | None,
        Option(
            help="Generate load: groups of prompts that begin alike, as tenants with a system prompt each send them.",
            show_default="shared-prefix without --trace",
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Option(
            min=0.1,
            help="How long requests are sent for; of a trace: its first seconds, by its own clock.",
            show_default=f"{USUAL.seconds:g}, of a trace: all",
        ),
    ] = None
    seed: Annotated[int, Option(help="For arrivals and order: the same seed sends the same load.")] = 1
    vocabulary: Annotated[
        int, Option(help="Prompts are random token ids below this; the served model must know them.")
    ] = 4000


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What only a trace has."""

    section: ClassVar[str] = "With --trace only"

    speed: Annotated[
        float | None, Option(min=0.001, help="Replay so many times as fast as recorded.", show_default="1")
    ] = None


@dataclass(frozen=True, slots=True)
class SharedPrefixOptions:
    """What only the profile has; the fields are those of SharedPrefix."""

    section: ClassVar[str] = "With --profile only"

    groups: Annotated[int | None, Option(min=1, help="Different shared prefixes.", show_default=f"{USUAL.groups}")] = (
        None
    )
    prompts_per_group: Annotated[
        int | None,
        Option(min=1, help="Different prompts that begin with one prefix.", show_default=f"{USUAL.prompts_per_group}"),
    ] = None
    system_tokens: Annotated[
        int | None, Option(min=1, help="Tokens of the shared prefix.", show_default=f"{USUAL.system_tokens}")
    ] = None
    question_tokens: Annotated[
        int | None,
        Option(min=1, help="Tokens of a prompt that are its own.", show_default=f"{USUAL.question_tokens}"),
    ] = None
    output_tokens: Annotated[
        int | None, Option(min=1, help="Tokens of each answer.", show_default=f"{USUAL.output_tokens}")
    ] = None
    rate_per_s: Annotated[
        float | None, Option("--rate", min=0.001, help="Requests a second.", show_default=f"{USUAL.rate_per_s:g}")
    ] = None
    arrivals: Annotated[
        Arrivals | None,
        Option(help="Independent of one another, or one every 1/rate seconds.", show_default=USUAL.arrivals),
    ] = None


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Where the load goes. None means: find it out."""

    section: ClassVar[str] = "Target: the only pool that `kvpool up` runs here, or --url"

    url: Annotated[str | None, Option(envvar="KVPOOL_URL", help="An OpenAI server.", show_default=False)] = None
    model: Annotated[
        str | None, Option(envvar="KVPOOL_MODEL", help="The model to ask for.", show_default="the first that is served")
    ] = None
    api_key: Annotated[str | None, Option(envvar="KVPOOL_API_KEY", help="Sent as bearer token.")] = None
    admin_url: Annotated[
        str | None,
        Option(envvar="KVPOOL_ADMIN_URL", help="With --url: its router's admin endpoint, for predictions."),
    ] = None
    admin_token_file: Annotated[
        Path | None, Option(envvar="KVPOOL_ADMIN_TOKEN_FILE", help="With --admin-url: the file with its token.")
    ] = None
    block_size: Annotated[
        int | None,
        Option(min=1, envvar="KVPOOL_BLOCK_SIZE", help="With --admin-url: tokens in a KV block.", show_default="16"),
    ] = None
    timeout_s: Annotated[
        float, Option("--request-timeout", min=1, help="Seconds after which a request counts as failed.")
    ] = 600.0
    run_folder: RunFolder = None


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is made of the outcome."""

    section: ClassVar[str] = "Report"

    plot: Annotated[Path | None, Option(metavar="FILE", help="Draw TTFT into a .png or .svg.", show_default=False)] = (
        None
    )
    as_json: Annotated[bool, Option("--json", help="One JSON object on stdout instead of the table.")] = False
    max_error_rate: Annotated[
        float,
        Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="Exit 1 when more than so many percent of the requests fail; 100 never does.",
        ),
    ] = 0.0

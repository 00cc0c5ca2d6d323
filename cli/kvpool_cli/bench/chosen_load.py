"""From options to a workload: a trace, or the generated profile, and never an option of the one with the other."""

from dataclasses import fields, replace

from kvpool_cli.bench.mooncake import Cut, replay
from kvpool_cli.bench.options import LoadOptions, SharedPrefixOptions, TraceOptions
from kvpool_cli.bench.token_ids import RESERVED_IDS, TokenIds
from kvpool_cli.bench.workload import SharedPrefix, Workload, shared_prefix
from kvpool_cli.errors import UserError
from kvpool_cli.option_groups import flags_given

LEAST_VOCABULARY = RESERVED_IDS + 1000
MOST_REQUESTS = 1_000_000


def workload_of(load: LoadOptions, trace: TraceOptions, profile: SharedPrefixOptions) -> Workload:
    """Raises UserError for options that do not go together, and for a trace that cannot be read."""
    if load.trace is None:
        _refuse(flags_given(trace), "belongs to --trace, and there is none")
        return shared_prefix(_bounded(_profile(load, profile)), load.seed)
    if load.profile is not None:
        raise UserError("--trace and --profile name two loads; leave one out")
    _refuse(flags_given(profile), "of generated load, and --trace replays another")
    cut = Cut(load.seconds) if trace.speed is None else Cut(load.seconds, trace.speed)
    return replay(load.trace, cut, load.seed)


def _refuse(flags: list[str], why: str) -> None:
    if flags:
        raise UserError(f"{', '.join(flags)}: {why}; leave {'it' if len(flags) == 1 else 'them'} out")


def _profile(load: LoadOptions, profile: SharedPrefixOptions) -> SharedPrefix:
    told = {each.name: getattr(profile, each.name) for each in fields(profile)} | {"seconds": load.seconds}
    return replace(SharedPrefix(), **{name: value for name, value in told.items() if value is not None})


def _bounded(profile: SharedPrefix) -> SharedPrefix:
    """The load is made before the clock starts, so it must fit the memory."""
    if profile.rate_per_s * profile.seconds > MOST_REQUESTS:
        raise UserError(
            f"--rate {profile.rate_per_s:g} for --seconds {profile.seconds:g} makes more than {MOST_REQUESTS:,} "
            "requests; lower one of them"
        )
    return profile


def token_ids_of(load: LoadOptions) -> TokenIds:
    """Raises UserError for a vocabulary in which prompts would be alike."""
    if load.vocabulary < LEAST_VOCABULARY:
        raise UserError(
            f"--vocabulary {load.vocabulary}: must be at least {LEAST_VOCABULARY}, or prompts would be alike"
        )
    return TokenIds(load.vocabulary)

from pathlib import Path

import pytest
from kvpool_cli.bench.chosen_load import token_ids_of, workload_of
from kvpool_cli.bench.options import LoadOptions, SharedPrefixOptions, TraceOptions
from kvpool_cli.errors import INVALID_INPUT, UserError


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text(
        "".join(
            f'{{"timestamp": {ms}, "input_length": 20, "output_length": 2, "hash_ids": [{ms}]}}\n' for ms in (3, 2003)
        )
    )
    return path


def test_nothing_told_is_the_usual_profile_for_a_minute():
    found = workload_of(LoadOptions(), TraceOptions(), SharedPrefixOptions())
    assert (
        "75 groups x 5 prompts, 6,000 shared + 1,200 own tokens, 64 out, poisson arrivals at 9/s for 60 s"
        in found.origin
    )


def test_what_is_told_of_the_profile_is_taken():
    profile = SharedPrefixOptions(groups=2, output_tokens=7, rate_per_s=4, arrivals="even")
    found = workload_of(LoadOptions(seconds=2, profile="shared-prefix"), TraceOptions(), profile)
    assert [planned.arrival_s for planned in found.requests] == [0.25 * n for n in range(8)]
    assert {planned.output_tokens for planned in found.requests} == {7}


def test_a_trace_is_cut_and_hastened(trace):
    found = workload_of(LoadOptions(trace=trace, seconds=1), TraceOptions(speed=2), SharedPrefixOptions())
    assert "first 1 s, 2 x speed" in found.origin
    assert "all, 1 x speed" in workload_of(LoadOptions(trace=trace), TraceOptions(), SharedPrefixOptions()).origin


@pytest.mark.parametrize(
    ("load", "only_trace", "only_profile", "words"),
    [
        (
            {"trace": Path("t"), "profile": "shared-prefix"},
            {},
            {},
            "--trace and --profile name two loads; leave one out",
        ),
        (
            {"trace": Path("t")},
            {},
            {"rate_per_s": 9, "groups": 75},
            "--groups, --rate: of generated load, and --trace replays another; leave them out",
        ),
        (
            {"profile": "shared-prefix"},
            {"speed": 1.0},
            {},
            "--speed: belongs to --trace, and there is none; leave it out",
        ),
        ({}, {"speed": 2.0}, {}, "--speed: "),
    ],
)
def test_an_option_of_the_other_load_is_refused_though_it_says_the_usual(load, only_trace, only_profile, words):
    with pytest.raises(UserError, match=words) as caught:
        workload_of(LoadOptions(**load), TraceOptions(**only_trace), SharedPrefixOptions(**only_profile))
    assert caught.value.exit_code == INVALID_INPUT


def test_a_vocabulary_in_which_prompts_would_be_alike_is_refused():
    with pytest.raises(UserError, match="--vocabulary 500"):
        token_ids_of(LoadOptions(vocabulary=500))


@pytest.mark.parametrize("told", [{"seconds": float("inf")}, {"seconds": 1e9}])
def test_a_load_without_end_is_refused_and_not_made(told):
    with pytest.raises(UserError, match=r"--rate 9 for --seconds \S+ makes more than 1,000,000 requests"):
        workload_of(LoadOptions(**told), TraceOptions(), SharedPrefixOptions())

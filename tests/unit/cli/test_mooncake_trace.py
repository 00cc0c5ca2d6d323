import importlib.resources
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_cli.bench.mooncake import Cut, burst_gap_ms, replay
from kvpool_cli.errors import UserError

SHIPPED = importlib.resources.files("kvpool_cli") / "traces" / "mooncake_conversation_first_150s.jsonl"


@pytest.fixture
def trace(tmp_path):
    def write(*rows):
        path = tmp_path / "trace.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return path

    return write


def row(timestamp=0, given=700, asked=5, blocks=(0, 1)):
    return {"timestamp": timestamp, "input_length": given, "output_length": asked, "hash_ids": list(blocks)}


def test_the_shipped_trace_replays_with_every_prompt_at_its_length():
    workload = replay(SHIPPED, Cut(), seed=1)
    rows = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    assert len(workload.requests) == len(rows) == 449
    assert sorted(planned.prompt_tokens for planned in workload.requests) == sorted(r["input_length"] for r in rows)
    assert all(planned.segments[0].key == "block 0" for planned in workload.requests)


def test_bursts_of_three_seconds_are_spread_over_them_and_said_so():
    workload = replay(SHIPPED, Cut(), seed=1)
    gaps = sorted(later.arrival_s - earlier.arrival_s for earlier, later in itertools.pairwise(workload.requests))
    assert gaps[len(gaps) // 2] > 0.1
    assert "bursts every 3 s spread" in workload.origin


def test_a_trace_with_a_fine_clock_is_replayed_as_it_stands(trace):
    workload = replay(trace(row(10), row(35), row(500)), Cut(), seed=1)
    assert [planned.arrival_s for planned in workload.requests] == [0.010, 0.035, 0.5]
    assert "spread" not in workload.origin


def test_requests_of_one_moment_keep_the_order_of_the_trace(trace):
    workload = replay(trace(row(10, blocks=(5, 6)), row(10, blocks=(0, 1)), row(12)), Cut(), seed=1)
    assert [planned.segments[0].key for planned in workload.requests] == ["block 5", "block 0", "block 0"]


def test_seconds_are_of_the_trace_and_speed_shortens_them(trace):
    path = trace(row(0), row(900), row(1900))
    assert [planned.arrival_s for planned in replay(path, Cut(1.0, 3.0), seed=1).requests] == [0, 0.3]


def test_the_last_block_of_a_prompt_may_be_short_and_a_request_always_asks_for_a_token(trace):
    (planned,) = replay(trace("", row(asked=0)), Cut(), seed=1).requests
    assert [segment.tokens for segment in planned.segments] == [512, 188]
    assert planned.output_tokens == 1


@given(st.lists(st.integers(0, 10**6)))
def test_only_gaps_of_a_second_and_more_count_as_bursts(timestamps):
    assert burst_gap_ms(timestamps) == 0 or burst_gap_ms(timestamps) >= 1000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not a request"),
        ("[]", "line 2"),
        ("[" * 100_000, "line 2: not a request"),
        ('{"timestamp": 1}', "input_length: Field required"),
        (row(blocks=(1,)), "hash_ids must name each block of 512 tokens"),
        (row(blocks=("a", "b")), "hash_ids.0: Input should be a valid integer"),
        (row(given="many"), "input_length: Input should be a valid integer"),
        (row(given=0, blocks=()), "input_length: Input should be greater than or equal to 1"),
        (row(asked=-1), "output_length: Input should be greater than or equal to 0"),
        (row(timestamp=-1), "timestamp: Input should be greater than or equal to 0"),
        (row(timestamp=float("nan")), "timestamp: "),
        (row(timestamp=float("inf")), "timestamp: "),
    ],
)
def test_a_line_that_is_no_request_is_named_with_what_is_wrong(trace, line, words):
    with pytest.raises(UserError, match="Mooncake's format") as caught:
        replay(trace(row(), line), Cut(), seed=1)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_trace_and_one_without_requests_in_time_are_said_in_one_line(tmp_path, trace):
    with pytest.raises(UserError, match="No such file"):
        replay(tmp_path / "none.jsonl", Cut(), seed=1)
    with pytest.raises(UserError, match="raise --seconds"):
        replay(trace(row(5000)), Cut(2.0), seed=1)
    for cut in (Cut(), Cut(2.0)):
        with pytest.raises(UserError, match="no request in it"):
            replay(trace("", ""), cut, seed=1)


def test_a_trace_that_is_no_text_is_said_in_one_line(tmp_path):
    (tmp_path / "trace.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        replay(tmp_path / "trace.jsonl", Cut(), seed=1)

"""Every shape of events seen from an engine gives the same events, and nothing that arrives raises.

`wire_vllm_0_32_0.jsonl`: messages captured from vLLM 0.32.0 (topic as hex, sequence number, payload as hex); the other
shapes are written here after vllm/distributed/kv_events.py of older and newer commits, as each test says.
"""

import json
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.events.wire import AllBlocksCleared, Batch, BlockRemoved, BlockStored, TokenIds, decode

CAPTURED = [
    bytes.fromhex(json.loads(line)[2])
    for line in (Path(__file__).parent / "wire_vllm_0_32_0.jsonl").read_text().splitlines()
]

MAP_STORED: dict[str, Any] = {
    "type": "BlockStored",
    "block_hashes": [11, (1 << 64) - 1],
    "parent_block_hash": 10,
    "token_ids": [1, 2, 3, 128_255],
    "block_size": 2,
    "lora_id": None,
    "medium": "GPU",
    "lora_name": None,
}
STORED = BlockStored([11, (1 << 64) - 1], 10, TokenIds(array("I", [1, 2, 3, 128_255])), 2, medium="GPU")


def packed(*events: object, batch: object = None) -> bytes:
    return msgspec.msgpack.encode(batch if batch is not None else [7.5, list(events), 3])


@pytest.mark.parametrize("payload", CAPTURED)
def test_a_captured_message_is_read_whole_and_field_by_field(payload):
    timestamp, events, rank = msgspec.msgpack.decode(payload)
    batch = decode(payload)
    assert (batch.timestamp, batch.dp_rank, batch.skipped) == (timestamp, rank, 0)
    assert len(batch.events) == len(events)
    for event, raw in zip(batch.events, events, strict=True):
        assert type(event).__name__ == raw.pop("type")
        read = msgspec.structs.asdict(event)
        if "token_ids" in raw:
            read["token_ids"] = array("I", event.token_ids).tolist()
            raw["extra_keys"] = [keys and tuple(keys) for keys in raw["extra_keys"]]
        assert {name: read[name] for name in raw} == raw


def test_the_captured_messages_hold_every_kind_of_event():
    kinds = [[type(event) for event in decode(payload).events] for payload in CAPTURED]
    assert kinds[:4] == [[BlockStored]] * 4
    assert kinds[4] == [BlockRemoved] * 22 + [BlockStored]
    assert kinds[5] == [AllBlocksCleared, BlockStored]


def test_the_captured_salt_is_in_the_first_blocks_keys_only():
    (stored,) = decode(CAPTURED[3]).events
    assert isinstance(stored, BlockStored)
    assert stored.extra_keys == [("tenant-a",), None, None, None, None, None]
    assert stored.token_ids == array("I", range(100, 292)).tobytes()


def test_arrays_of_maps_are_read_as_vllm_0_32_writes_them():
    cleared, removed = {"type": "AllBlocksCleared"}, {"type": "BlockRemoved", "block_hashes": [11], "medium": "GPU"}
    assert decode(packed(MAP_STORED, removed, cleared)) == Batch(
        7.5, 3, (STORED, BlockRemoved([11], "GPU"), AllBlocksCleared()), 0
    )


def test_positional_events_are_read_as_older_releases_wrote_them():
    """KVCacheEvent with `array_like=True`: the tag, then the fields in order."""
    stored = ["BlockStored", [11, (1 << 64) - 1], 10, [1, 2, 3, 128_255], 2, None, "GPU", None]
    assert decode(packed(stored, ["BlockRemoved", [11], "GPU"], ["AllBlocksCleared"])) == Batch(
        7.5, 3, (STORED, BlockRemoved([11], "GPU"), AllBlocksCleared()), 0
    )


def test_positional_events_without_medium_and_batches_without_rank_are_read_as_the_first_release_wrote_them():
    """EventBatch(ts, events); BlockStored up to lora_id; BlockRemoved with hashes alone."""
    stored = ["BlockStored", [11], None, [5, 6], 2, None]
    expected = BlockStored([11], None, TokenIds(array("I", [5, 6])), 2)
    assert decode(packed(batch=[7.5, [stored, ["BlockRemoved", [11]]]])) == Batch(
        7.5, None, (expected, BlockRemoved([11])), 0
    )


def test_positional_events_carry_group_and_kind_where_they_are_longer():
    """`array_like=True` beside group_idx and kv_cache_spec_kind (the commits before events became maps)."""
    stored = ["BlockStored", [11], None, [5, 6], 2, None, "GPU", "ada", [["ada"]], 1, "sliding_window", 512]
    expected = BlockStored(
        [11], None, TokenIds(array("I", [5, 6])), 2, None, "GPU", "ada", [("ada",)], 1, "sliding_window", 512
    )
    assert decode(packed(stored)).events == (expected,)
    assert decode(packed([*stored, "LOCAL", "newer", 1])).events == (
        msgspec.structs.replace(expected, locality="LOCAL"),
    )


def test_a_batch_that_is_a_map_is_read():
    """EventBatch with `tag=True` and without `array_like`, as one commit of vLLM has it."""
    batch = {"type": "KVEventBatch", "ts": 7.5, "events": [MAP_STORED], "data_parallel_rank": 3}
    assert decode(packed(batch=batch)) == Batch(7.5, 3, (STORED,), 0)
    assert decode(packed(batch={"ts": 7, "events": [MAP_STORED]})) == Batch(7.0, None, (STORED,), 0)


def test_hashes_that_are_bytes_become_the_integers_that_vllm_would_send():
    """VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0; the integer form is the low 64 bits (vLLM `maybe_convert_block_hash`)."""
    digests = [bytes(24) + value.to_bytes(8, "big") for value in (11, (1 << 64) - 1)]
    raw = MAP_STORED | {"block_hashes": digests, "parent_block_hash": b"\xff" * 24 + (10).to_bytes(8, "big")}
    removed = {"type": "BlockRemoved", "block_hashes": digests[:1], "medium": "GPU"}
    assert decode(packed(raw, removed)).events == (STORED, BlockRemoved([11], "GPU"))


def test_newer_fields_are_passed_over():
    """vLLM 0.33: session_id, ownership, lookahead_token_ids; what comes after is not known yet."""
    newer = {"session_id": "s", "ownership": "o", "lookahead_token_ids": [9], "locality": "REMOTE", "other": {"a": [1]}}
    assert decode(packed(MAP_STORED | newer)).events == (msgspec.structs.replace(STORED, locality="REMOTE"),)
    assert decode(packed(batch=[7.5, [MAP_STORED], 3, "more", {}])) == Batch(7.5, 3, (STORED,), 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "BlockTransferred", "block_hashes": [1]},
        ["BlockTransferred", [1]],
        {"block_hashes": [1]},
        MAP_STORED | {"token_ids": [-1]},
        MAP_STORED | {"token_ids": [1 << 32]},
        MAP_STORED | {"token_ids": ["1"]},
        MAP_STORED | {"token_ids": None},
        MAP_STORED | {"block_hashes": ["11"]},
        MAP_STORED | {"block_hashes": 11},
        MAP_STORED | {"block_hashes": [True, None]},
        MAP_STORED | {"parent_block_hash": 1.5},
        MAP_STORED | {"block_size": "2"},
        MAP_STORED | {"extra_keys": [1]},
        {name: value for name, value in MAP_STORED.items() if name != "token_ids"},
        [],
        [["BlockStored"]],
        {},
        None,
        "BlockStored",
        17,
        {1: 2},
    ],
)
def test_a_bad_or_unknown_event_is_counted_and_costs_no_other(bad):
    assert decode(packed(MAP_STORED, bad, MAP_STORED)) == Batch(7.5, 3, (STORED, STORED), 1)


def test_a_map_keyed_by_a_map_is_one_bad_event():
    stored = msgspec.msgpack.encode(MAP_STORED)
    assert decode(b"\x93\x07\x92" + b"\x81\x81\x01\x02\x03" + stored + b"\x03") == Batch(7.0, 3, (STORED,), 1)


@pytest.mark.parametrize("rank", ["three", -1.5, {}, [1]])
def test_a_rank_or_time_that_makes_no_sense_costs_no_event(rank):
    assert decode(packed(batch=["now", [MAP_STORED], rank])) == Batch(0.0, None, (STORED,), 0)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", b"\x80", b"\x90", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"garbage", packed(batch=[7.5, 17, 3])],
)
def test_a_message_that_is_no_batch_counts_as_one_skipped(payload):
    assert decode(payload) == Batch(0.0, None, (), 1)


def test_a_message_that_was_cut_short_counts_as_one_skipped():
    for end in range(len(CAPTURED[1])):
        assert decode(CAPTURED[1][:end]) == Batch(0.0, None, (), 1)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 99), inner, max_size=4),
    max_leaves=12,
)
nearly_stored = st.fixed_dictionaries({name: st.just(value) | anything for name, value in MAP_STORED.items()})


@settings(max_examples=300, deadline=None)
@given(st.binary() | anything.map(msgspec.msgpack.encode))
def test_no_bytes_raise(payload):
    batch = decode(payload)
    assert batch.skipped >= 0


@settings(max_examples=300, deadline=None)
@given(st.lists(anything | nearly_stored, max_size=5))
def test_every_event_of_a_readable_batch_is_either_read_or_skipped(events):
    batch = decode(packed(*events))
    assert len(batch.events) + batch.skipped == len(events)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CAPTURED[:4]), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_no_damaged_message_raises(payload, damage):
    damaged = bytearray(payload)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    assert len(decode(bytes(damaged)).events) <= 1 + len(payload)

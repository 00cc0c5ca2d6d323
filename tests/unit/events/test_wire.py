"""Every shape of events seen from an engine gives the same events, and nothing that arrives raises.

`wire/captured_*.jsonl`: captured from vLLM 0.32.0, a message a line, its parts as hex. /*.json`: written by hand
after vLLM's own structs, each with its source; what should be read of it stands beside, with token ids as numbers.
"""

import json
import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.events.replay import frame_of
from kvpool_router.events.wire import (
    AllBlocksCleared,
    Batch,
    BlockRemoved,
    BlockStored,
    KvEvent,
    Skipped,
    TokenIds,
    decode,
)

WIRE = Path(__file__).parent / "wire"
CAPTURED = [
    bytes.fromhex(json.loads(line)[-1])
    for file in ("captured_vllm_0_32_0.jsonl", "captured_vllm_0_32_0_replay.jsonl")
    for line in (WIRE / file).read_text().splitlines()
    if json.loads(line)[-1]
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
    assert (batch.timestamp, batch.dp_rank, batch.skipped) == (timestamp, rank, ())
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
        7.5, 3, (STORED, BlockRemoved([11], "GPU"), AllBlocksCleared())
    )


def wired(value: object) -> object:
    """JSON has no bytes: they stand as text that begins with `hex:`."""
    if isinstance(value, str) and value.startswith("hex:"):
        return bytes.fromhex(value.removeprefix("hex:"))
    if isinstance(value, list):
        return [wired(each) for each in value]
    return {name: wired(each) for name, each in value.items()} if isinstance(value, dict) else value


def told(event: KvEvent) -> list[Any]:
    fields = {field: value for field, value in msgspec.structs.asdict(event).items() if value is not None}
    if isinstance(event, BlockStored):
        fields["token_ids"] = array("I", event.token_ids).tolist()
        fields |= {} if event.parent_block_hash is not None else {"parent_block_hash": None}
    return [type(event).__name__, json.loads(msgspec.json.encode(fields))]


@pytest.mark.parametrize("file", sorted(WIRE.glob("*.json")), ids=lambda file: file.stem)
def test_every_release_is_read_as_it_wrote(file):
    vector = json.loads(file.read_text())
    assert vector["source"]
    batch = decode(packed(batch=wired(vector["batch"])))
    assert {
        "timestamp": batch.timestamp,
        "dp_rank": batch.dp_rank,
        "events": [told(event) for event in batch.events],
        "skipped": list(batch.skipped),
    } == vector["read"]


def test_a_captured_replay_is_read_as_it_was_sent():
    lines = [json.loads(line) for line in (WIRE / "captured_vllm_0_32_0_replay.jsonl").read_text().splitlines()]
    frames = [frame_of([bytes.fromhex(part) for part in line]) for line in lines]
    assert [frame and frame.sequence for frame in frames] == [0, 1, -1]


def test_newer_fields_are_passed_over():
    """vLLM 0.33: session_id, ownership, lookahead_token_ids; what comes after is not known yet."""
    newer = {"session_id": "s", "ownership": "o", "lookahead_token_ids": [9], "locality": "REMOTE", "other": {"a": [1]}}
    assert decode(packed(MAP_STORED | newer)).events == (msgspec.structs.replace(STORED, locality="REMOTE"),)
    assert decode(packed(batch=[7.5, [MAP_STORED], 3, "more", {}])) == Batch(7.5, 3, (STORED,))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"type": "BlockTransferred", "block_hashes": [1]}, Skipped.UNKNOWN),
        (["BlockTransferred", [1]], Skipped.UNKNOWN),
        (MAP_STORED | {"token_ids": [-1]}, Skipped.STORED),
        (MAP_STORED | {"token_ids": [1 << 32]}, Skipped.STORED),
        (MAP_STORED | {"token_ids": ["1"]}, Skipped.STORED),
        (MAP_STORED | {"token_ids": 7}, Skipped.STORED),
        (MAP_STORED | {"block_hashes": ["11"]}, Skipped.STORED),
        (MAP_STORED | {"block_hashes": 11}, Skipped.STORED),
        (MAP_STORED | {"block_hashes": [True, None]}, Skipped.STORED),
        (MAP_STORED | {"parent_block_hash": 1.5}, Skipped.STORED),
        (MAP_STORED | {"block_size": "2"}, Skipped.STORED),
        (MAP_STORED | {"extra_keys": [1]}, Skipped.STORED),
        ({name: value for name, value in MAP_STORED.items() if name != "token_ids"}, Skipped.STORED),
        (["BlockStored"], Skipped.STORED),
        (["BlockRemoved"], Skipped.REMOVED),
        ({"type": "BlockRemoved", "block_hashes": [None]}, Skipped.REMOVED),
        ({"type": "AllBlocksCleared", "medium": 7}, Skipped.REMOVED),
        ({"block_hashes": [1]}, Skipped.ILLEGIBLE),
        ({"type": 1}, Skipped.ILLEGIBLE),
        ([], Skipped.ILLEGIBLE),
        ([["BlockStored"]], Skipped.ILLEGIBLE),
        ({}, Skipped.ILLEGIBLE),
        (None, Skipped.ILLEGIBLE),
        ("BlockStored", Skipped.ILLEGIBLE),
        (17, Skipped.ILLEGIBLE),
        ({1: 2}, Skipped.ILLEGIBLE),
    ],
)
def test_a_bad_or_unknown_event_is_told_by_its_kind_and_costs_no_other(bad, kind):
    assert decode(packed(MAP_STORED, bad, MAP_STORED)) == Batch(7.5, 3, (STORED, STORED), (kind,))


def test_a_map_keyed_by_a_map_is_one_bad_event():
    stored = msgspec.msgpack.encode(MAP_STORED)
    assert decode(b"\x93\x07\x92" + b"\x81\x81\x01\x02\x03" + stored + b"\x03") == Batch(
        7.0, 3, (STORED,), (Skipped.ILLEGIBLE,)
    )


@pytest.mark.parametrize("rank", ["three", -1.5, {}, [1]])
def test_a_rank_or_time_that_makes_no_sense_costs_no_event(rank):
    assert decode(packed(batch=["now", [MAP_STORED], rank])) == Batch(0.0, None, (STORED,))


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", b"\x80", b"\x90", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"garbage", packed(batch=[7.5, 17, 3])],
)
def test_a_message_that_is_no_batch_counts_as_one_skipped(payload):
    assert decode(payload) == Batch(0.0, None, (), (Skipped.ILLEGIBLE,))


def test_a_message_that_was_cut_short_counts_as_one_skipped():
    for end in range(len(CAPTURED[1])):
        assert decode(CAPTURED[1][:end]) == Batch(0.0, None, (), (Skipped.ILLEGIBLE,))


CLAIMS = [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"]
"""Headers of msgpack's longest list, map, bytes, text and extension."""


@pytest.mark.parametrize("header", CLAIMS, ids=bytes.hex)
@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\x93\x01",
        b"\x93\x01\x91",
        b"\x82\xa2ts\x01\xa6events",
        b"\x93\x01\x91\x82\xa4type\xacBlockRemoved\xacblock_hashes",
        b"\x93\x01\x91\x93\xabBlockStored\x90\xc0",
        b"\x93\x01\x91\x83\xa4type\xabBlockStored\xacblock_hashes\x90\xa9token_ids",
        b"\x93\x01\x91\x82\xa4type\xabBlockStored\xaaextra_keys\x91",
        b"\x93\x01\x91\x82\xa4type\xabBlockStored\xa5newer",
    ],
    ids=bytes.hex,
)
def test_a_header_that_claims_4_billion_elements_takes_no_memory_for_them(before, header):
    tracemalloc.start()
    try:
        batch = decode(before + header + b"\xff\xff\xff\xff" + b"\x01" * 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (batch.events, len(batch.skipped)) == ((), 1)
    assert peak < 1 << 20


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\x81\xa1a"], ids=bytes.hex)
@pytest.mark.parametrize("depth", [10, 1000, 100_000])
def test_nesting_of_any_depth_is_one_bad_event(opening, depth):
    deep = opening * depth + b"\xc0"
    stored = msgspec.msgpack.encode(MAP_STORED)
    batch = decode(b"\x93\x07\x92" + stored + deep + b"\x03")
    assert batch in (
        Batch(7.0, 3, (STORED,), (Skipped.ILLEGIBLE,)),
        Batch(0.0, None, (), (Skipped.ILLEGIBLE,)),
    )


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
    assert all(isinstance(kind, Skipped) for kind in batch.skipped)


@settings(max_examples=300, deadline=None)
@given(st.lists(anything | nearly_stored, max_size=5))
def test_every_event_of_a_readable_batch_is_either_read_or_skipped(events):
    batch = decode(packed(*events))
    assert len(batch.events) + len(batch.skipped) == len(events)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CAPTURED[:4]), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_no_damaged_message_raises(payload, damage):
    damaged = bytearray(payload)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    assert len(decode(bytes(damaged)).events) <= 1 + len(payload)

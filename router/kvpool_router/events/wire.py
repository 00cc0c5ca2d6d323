"""KV events as engines publish them: msgpack in several shapes comes in, one set of events goes out.

Shapes seen (vLLM's `distributed/kv_events.py` over its releases): a batch is an array `[ts, events, dp_rank]` or a map;
an event is a map tagged by `type` or, in older releases, an array with the tag first; hashes are unsigned integers or
bytes. Newer releases append fields and event types. None of this may cost a batch: what is not understood is skipped,
and said to be of the kind that tells what it may mean for a map.
"""

import sys
from array import array
from enum import StrEnum
from typing import Any, TypeAlias, cast

import msgspec

HASH_BITS = 64
"""vLLM's integer hashes are the low 64 bits of its bytes hashes (`maybe_convert_block_hash`); ours are the same."""

ExtraKeys: TypeAlias = tuple[Any, ...]
"""What beside its tokens makes up a block's identity: strings, bytes and pairs, as the engine put them."""


class TokenIds(bytes):
    """Token ids as little-endian uint32, four bytes a token."""

    __slots__ = ()


class BlockStored(msgspec.Struct, tag="BlockStored", gc=False):
    """A run of consecutive blocks is in the cache now, after the block `parent_block_hash` (None: a prompt's start)."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: TokenIds
    """`block_size` tokens for each hash; fewer hashes than that where the engine left blocks out (sliding windows)."""
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    """GPU, CPU or STORAGE; None in releases that knew only the GPU."""
    lora_name: str | None = None
    extra_keys: list[ExtraKeys | None] | None = None
    """One entry a block, in this order: LoRA name, `(multimodal id, offset)` pairs, cache salt (in a prompt's first
    block only), digests of prompt embeddings (vLLM `to_event_extra_keys`)."""
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None
    """LOCAL or REMOTE as seen from the publisher; None means local."""


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", gc=False):
    """Blocks have left one tier of the cache. vLLM sends one such event for each physical copy of a block."""

    block_hashes: list[int]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", gc=False):
    """The cache was reset."""

    medium: str | None = None


KvEvent: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class Skipped(StrEnum):
    """What an event was that is not understood."""

    STORED = "stored"
    """It told of blocks that are in the cache now: to miss it costs credit."""
    REMOVED = "removed"
    """It told of blocks that are gone: a map that misses it may claim what is not there."""
    UNKNOWN = "unknown"
    """A kind that no release had when this was written."""
    ILLEGIBLE = "illegible"
    """It may have been anything; also for a whole batch."""

    @property
    def may_remove(self) -> bool:
        return self in (Skipped.REMOVED, Skipped.ILLEGIBLE)


class Batch(msgspec.Struct, gc=False):
    """What one message held."""

    timestamp: float
    """The engine's clock, seconds; 0.0 where it could not be read."""
    dp_rank: int | None
    events: tuple[KvEvent, ...]
    skipped: tuple[Skipped, ...] = ()
    """One for each event that was not understood; one with no events where the batch as a whole was not."""


def decode(payload: bytes) -> Batch:
    """Reads one message of the event stream. Never raises on content."""
    try:
        batch = _COMMON_BATCH.decode(payload)
    except _UNREADABLE:
        return _decode_leniently(payload)
    return Batch(batch.ts, batch.data_parallel_rank, batch.events)


class _CommonBatch(msgspec.Struct, array_like=True, gc=False):
    """The shape of vLLM 0.32 and 0.33 as a whole, so that one call of the decoder reads a message."""

    ts: float
    events: tuple[KvEvent, ...]
    data_parallel_rank: int | None = None


def _token_ids(_type: type, ids: Any) -> TokenIds:  # noqa: ANN401 - msgspec's hook takes whatever the wire holds
    """array('I') is the fastest way from a list of ints to bytes without numpy (2 us for 512 tokens)."""
    words = array("I", ids)
    if sys.byteorder == "big":  # pragma: no cover
        words.byteswap()
    return TokenIds(words)


_UNREADABLE = (msgspec.MsgspecError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
_COMMON_BATCH = msgspec.msgpack.Decoder(_CommonBatch, dec_hook=_token_ids)
_RAW_ARRAY = msgspec.msgpack.Decoder(list[msgspec.Raw])
_RAW_MAP = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.msgpack.Decoder()

_EVENT_KINDS = (BlockStored, BlockRemoved, AllBlocksCleared)
_POSITIONS = {kind.__name__: ("type", *kind.__struct_fields__) for kind in _EVENT_KINDS}
"""Array-shaped events list their fields in the order in which the map-shaped ones declare them."""
_SKIPPED = {"BlockStored": Skipped.STORED, "BlockRemoved": Skipped.REMOVED, "AllBlocksCleared": Skipped.REMOVED}


def _decode_leniently(payload: bytes) -> Batch:
    try:
        timestamp, events, dp_rank = _batch_parts(payload)
    except _UNREADABLE:
        return Batch(0.0, None, (), (Skipped.ILLEGIBLE,))
    read: list[KvEvent] = []
    skipped: list[Skipped] = []
    for raw in events:
        event = _event(raw)
        if event is None:
            skipped.append(_kind(raw))
        else:
            read.append(event)
    return Batch(timestamp, dp_rank, tuple(read), tuple(skipped))


def _batch_parts(payload: bytes) -> tuple[float, list[msgspec.Raw], int | None]:
    """Timestamp, events still encoded one by one, and rank, from an array or a map."""
    try:
        timestamp, events, *rest = _RAW_ARRAY.decode(payload)
        rank = rest[0] if rest else None
    except msgspec.ValidationError:
        fields = _RAW_MAP.decode(payload)
        timestamp, events, rank = fields["ts"], fields["events"], fields.get("data_parallel_rank")
    return _number(timestamp) or 0.0, _RAW_ARRAY.decode(events), _rank(rank)


def _number(raw: msgspec.Raw) -> float | None:
    try:
        return msgspec.msgpack.decode(raw, type=float)
    except _UNREADABLE:
        return None


def _rank(raw: msgspec.Raw | None) -> int | None:
    try:
        return None if raw is None else msgspec.msgpack.decode(raw, type=int)
    except _UNREADABLE:
        return None


def _event(raw: msgspec.Raw) -> KvEvent | None:
    try:
        fields = _named_fields(_ANY.decode(raw))
        if "block_hashes" in fields:
            fields["block_hashes"] = [_hash(value) for value in fields["block_hashes"]]
        if fields.get("parent_block_hash") is not None:
            fields["parent_block_hash"] = _hash(fields["parent_block_hash"])
        if fields.get("token_ids", ()) is None:
            fields["token_ids"] = ()
        return cast(KvEvent, msgspec.convert(fields, KvEvent, dec_hook=_token_ids))
    except _UNREADABLE:
        return None


def _kind(raw: msgspec.Raw) -> Skipped:
    """What an event that cannot be read says that it is."""
    try:
        event = _ANY.decode(raw)
        tag = event[0] if isinstance(event, list) else event["type"]
    except _UNREADABLE:
        return Skipped.ILLEGIBLE
    if not isinstance(tag, str):
        return Skipped.ILLEGIBLE
    return _SKIPPED.get(tag, Skipped.UNKNOWN)


def _named_fields(event: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the wire holds
    if isinstance(event, list):
        return dict(zip(_POSITIONS[event[0]], event, strict=False))
    return dict(event)


def _hash(value: int | bytes) -> int:
    return value if isinstance(value, int) else int.from_bytes(value[-HASH_BITS // 8 :], "big")

"""What an engine says of its KV cache."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockStored:
    """Consecutive blocks of one prompt are cached now."""

    hashes: tuple[int, ...]
    parent: int | None
    token_ids: Sequence[int]
    extra_keys: tuple[tuple[str, ...] | None, ...]
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class BlockRemoved:
    """One block was evicted."""

    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """The whole cache was reset."""


@dataclass(frozen=True, slots=True)
class BlockOffloaded:
    """One block is in main memory now. Of what it holds, vLLM tells nothing but its hash."""

    value: int


@dataclass(frozen=True, slots=True)
class BlockDropped:
    """Blocks were evicted from main memory."""

    hashes: tuple[int, ...]


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared | BlockOffloaded | BlockDropped

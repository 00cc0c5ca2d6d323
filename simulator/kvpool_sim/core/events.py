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


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared

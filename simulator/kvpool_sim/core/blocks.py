"""Paged KV blocks with prefix caching, as vLLM's block pool keeps them (v1/core/block_pool.py, 0.32)."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from kvpool_sim.core.events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent

_HASH_BYTES = 8
Hash = int
"""Of a block and all before it: 64 bits. An engine's hashes are its own; nobody else need compute them."""


def chain(parent: Hash | None, block: bytes, salt: str | None, adapter: str | None = None) -> Hash:
    """Hash of a block of tokens after `parent`; salt and adapter enter the first block, and so all that follow."""
    if parent is not None:
        before = parent.to_bytes(_HASH_BYTES, "big")
    else:
        # longer than a hash, so that nothing of this can pass for the block before
        before = b"".join(
            bytes(2 * _HASH_BYTES) if word is None else blake2b(word.encode(), digest_size=2 * _HASH_BYTES).digest()
            for word in (adapter, salt)
        )
    return int.from_bytes(blake2b(before + block, digest_size=_HASH_BYTES).digest(), "big")


def chained(
    tokens: array[int], block_tokens: int, known: list[Hash], salt: str | None, adapter: str | None = None
) -> list[Hash]:
    """Extends `known` to one hash for each whole block of `tokens`."""
    raw = memoryview(tokens).cast("B")
    size = block_tokens * tokens.itemsize
    parent = known[-1] if known else None
    for start in range(len(known) * size, len(raw) - size + 1, size):
        parent = chain(parent, raw[start : start + size].tobytes(), salt, adapter)
        known.append(parent)
    return known


class BlockPool:
    """Blocks by number; which are free, which are cached, and who uses them.

        free:    5 ─ 9 ─ 2 ─ 7 ...     those that hold nothing reusable, then the least recently freed; a cached block
                                       stays usable until it is taken again
        cached:  hash -> {2, 8}        several blocks may hold the same content
        users:   block -> how many running requests hold it (0: it stands in `free`)

    Block 0 is vLLM's null block and never handed out. A freed request returns its blocks last to first, so the ends of
    prompts are evicted before their beginnings; a block that was never filled is of no use and goes to the front.
    """

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.usable = blocks - 1
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, blocks))
        self._users = [0] * blocks
        self._hash_of: dict[int, Hash] = {}
        self._cached: dict[Hash, dict[int, None]] = {}
        self._events: list[KvEvent] = []

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def cached(self) -> int:
        """Distinct contents that a prompt could reuse."""
        return len(self._cached)

    def usage(self) -> float:
        """Share of blocks that running requests hold."""
        return 1.0 - len(self._free) / self.usable

    def lookup(self, hashes: Sequence[Hash]) -> list[int]:
        """Blocks that hold the longest cached prefix."""
        found = []
        for value in hashes:
            copies = self._cached.get(value)
            if copies is None:
                break
            found.append(next(iter(copies)))
        return found

    def take(self, reused: Sequence[int], new: int, later: int = 0) -> list[int] | None:
        """`new` blocks beside the `reused` ones, all held from now on; None (and nothing held) if there are too few.

        `later` blocks must be free beside them, but are not held.
        """
        if new + later > len(self._free) - sum(not self._users[block] for block in reused):
            return None
        for block in reused:
            if not self._users[block]:
                del self._free[block]
            self._users[block] += 1
        return [self._take_oldest() for _ in range(new)]

    def store(
        self,
        blocks: Sequence[int],
        hashes: Sequence[Hash],
        parent: Hash | None,
        tokens: array[int],
        salt: str | None,
        adapter: str | None = None,
    ) -> None:
        """These held blocks are full now: others may reuse them."""
        for block, value in zip(blocks, hashes, strict=True):
            self._hash_of[block] = value
            self._cached.setdefault(value, {})[block] = None
        every = () if adapter is None else (adapter,)
        first = every if parent is not None or salt is None else (*every, salt)
        extra = (first or None, *[every or None] * (len(blocks) - 1))
        self._events.append(BlockStored(tuple(hashes), parent, tokens.tolist(), extra, adapter))

    def release(self, blocks: Sequence[int]) -> None:
        """A request lets go of its blocks, given first to last."""
        unfilled = []
        for block in reversed(blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                if block not in self._hash_of:
                    unfilled.append(block)
        for block in reversed(unfilled):
            self._free.move_to_end(block, last=False)

    def reset(self) -> bool:
        """Forgets all cached content, if no request holds a block."""
        if len(self._free) != self.usable:
            return False
        self._hash_of.clear()
        self._cached.clear()
        self._events.append(AllBlocksCleared())
        return True

    def take_events(self) -> list[KvEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _take_oldest(self) -> int:
        block, _ = self._free.popitem(last=False)
        self._users[block] = 1
        value = self._hash_of.pop(block, None)
        if value is not None:
            copies = self._cached[value]
            del copies[block]
            if not copies:
                del self._cached[value]
            self._events.append(BlockRemoved((value,)))
        return block

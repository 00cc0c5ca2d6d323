"""The map proper: which workers hold which blocks, by what their engines said."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import Run, RunTree

_KEY = (1 << 60) - 1
"""Of a 64-bit hash 60 bits are kept: such an int takes 32 bytes, not 48. Two of a worker's million blocks then share a
key with a chance of 1 in 2 million, and what that does is to lose one block's credit."""
_DEPTH_BITS = 24
_DEPTH = (1 << _DEPTH_BITS) - 1
_APART = -1


class Outcome(Enum):
    """What became of blocks that an engine stored."""

    CREDITED = auto()
    ORPHANED = auto()
    """The parent is not held: it is unknown which prompt they continue."""
    APART = auto()
    """They continue blocks that no text prompt can match."""
    REPEATED = auto()
    """One hash stands for two blocks of the same event."""


class Stored(NamedTuple):
    """`start` is the place of the first block in its prompt, where it is known."""

    outcome: Outcome
    start: int = 0


class Holding:
    """One engine's blocks, by the engine's own hashes."""

    __slots__ = ("blocks", "copies", "seat")

    def __init__(self, seat: int) -> None:
        self.seat = seat
        self.blocks: dict[int, int] = {}
        """Hash -> id of a run and the block's place in its prompt, packed; or `_APART`."""
        self.copies: dict[int, int] = {}
        """How often the engine has a block, for those that it has more than once."""


class PrefixTree:
    """Which workers hold which prefix, as a radix tree over runs of token blocks.

        root ── [b0 b1 b2 b3] ── [b4 b5]        full: workers that hold the whole run (bitset)
                      │                          part: worker -> bitset of blocks, for the few that hold some
                      └──────── [b4' b5' b6']

        worker 0   h0 -> (run 7, 0)   h1 -> (run 7, 1) ...     one map an engine, by the engine's hashes: where a
        worker 1   g0 -> (run 7, 0)   g1 -> (run 7, 1) ...     stored block's parent is, where a removed block is

    A run is one bytes object: a prompt of 450 blocks is followed by one memcmp a run, where a dictionary of block
    hashes costs a hash and a probe a block and needs the engine's hash function and seed. Here hashes stay opaque.

    The packed place of a block is never rewritten. After a cut the old id means the tail, and blocks of the head are
    found by climbing from it; an id lives until no entry uses it and the run has left the tree.

    Memory is bounded by what the engines hold: a run that nobody has and nothing continues leaves the tree, the unheld
    end of a leaf is cut off once it is the greater half, and a fork that has lost its branch becomes one run again.
    """

    def __init__(self, runs: RunTree) -> None:
        self._runs = runs
        self._holdings: dict[int, Holding] = {}

    def blocks(self, seat: int) -> int:
        """Distinct blocks that the worker holds, those apart included."""
        holding = self._holdings.get(seat)
        return len(holding.blocks) if holding else 0

    def reach(self, seat: int, tokens: bytes, namespace: Namespace) -> int:
        """The whole leading blocks that the worker has."""
        return sum(blocks for _, blocks in self._runs.match(tokens, namespace, 1 << seat))

    def store(
        self, seat: int, namespace: Namespace, parent: int | None, hashes: Sequence[int], tokens: bytes
    ) -> Stored:
        """The worker now has these consecutive blocks after `parent`; `tokens` is theirs, whole. At least one block."""
        holding = self._holding(seat)
        blocks = holding.blocks
        keys = [value & _KEY for value in hashes]
        if len(set(keys)) < len(keys):
            return Stored(Outcome.REPEATED)
        if parent is None:
            node, depth = self._runs.root(namespace), 0
        else:
            place = blocks.get(parent & _KEY)
            if place is None:
                return Stored(Outcome.ORPHANED)
            if place == _APART:
                self.store_apart(seat, hashes)
                return Stored(Outcome.APART)
            node, last = self._located(place)
            if not node.held(seat) >> (last - node.start) & 1:
                return Stored(Outcome.ORPHANED)
            depth = last + 1
        known = {} if blocks.keys().isdisjoint(keys) else {key: blocks[key] for key in keys if key in blocks}
        self._place(holding, node, depth, keys, tokens)
        if known:
            self._settle(holding, known)
        return Stored(Outcome.CREDITED, depth)

    def store_apart(self, seat: int, hashes: Iterable[int]) -> None:
        """The worker has these blocks, but no text prompt can match them."""
        holding = self._holding(seat)
        for key in (value & _KEY for value in hashes):
            known = holding.blocks.get(key)
            holding.blocks[key] = _APART
            if known == _APART:
                holding.copies[key] = holding.copies.get(key, 1) + 1
            elif known is not None:
                self._withdraw(holding, key, known)

    def remove(self, seat: int, hashes: Iterable[int]) -> int:
        """The worker has lost one copy of each of these; returns how many of them it was known to have."""
        holding = self._holdings.get(seat)
        if holding is None:
            return 0
        return sum(self._remove(holding, value & _KEY) for value in hashes)

    def forget(self, seat: int) -> int:
        """The worker holds nothing any more, and its seat may be given to another; returns the blocks it had."""
        holding = self._holdings.pop(seat, None)
        if holding is None:
            return 0
        touched: set[Run] = set()
        entries = Counter(place >> _DEPTH_BITS for place in holding.blocks.values() if place != _APART)
        for number, count in entries.items():
            node = self._runs.by_id[number]
            while node not in touched:
                touched.add(node)
                node.hold(seat, 0)
                node = node.parent
            self._runs.drop_entries(self._runs.by_id[number], count)
        for node in touched:
            if node.length:
                self._runs.tidy(node)
        return len(holding.blocks)

    def _holding(self, seat: int) -> Holding:
        holding = self._holdings.get(seat)
        if holding is None:
            holding = self._holdings[seat] = Holding(seat)
        return holding

    def _place(self, holding: Holding, node: Run, depth: int, keys: list[int], tokens: bytes) -> None:
        """Walks down from the node that ends at, or holds, the place `depth`; makes runs where there are none."""
        size, done = self._runs.block_bytes, 0
        while done < len(keys):
            offset = depth - node.start
            if offset < node.length:
                count = self._runs.same_blocks(node, offset, tokens, done)
                if offset + count < node.length and done + count < len(keys):
                    node = self._runs.cut(node, offset + count)
                if not count:
                    continue
            else:
                child = node.children.get(tokens[done * size : (done + 1) * size])
                if child is not None:
                    node = child
                    continue
                node, count = self._grow(holding, node, tokens[done * size :])
                offset = depth - node.start
            self._enter(holding, node, offset, keys[done : done + count])
            done += count
            depth += count

    def _grow(self, holding: Holding, node: Run, tokens: bytes) -> tuple[Run, int]:
        """Puts blocks after the end of a run: into it, if it is this worker's alone, or into a new one."""
        alone = node.full == 1 << holding.seat and not node.part and not node.children
        room = self._runs.longest_run - node.length
        if not (alone and room):
            child = self._runs.attach(node, tokens[: self._runs.longest_run * self._runs.block_bytes])
            return child, child.length
        added = tokens[: room * self._runs.block_bytes]
        count = len(added) // self._runs.block_bytes
        node.tokens += added
        node.length += count
        return node, count

    def _enter(self, holding: Holding, node: Run, offset: int, keys: list[int]) -> None:
        first = node.id << _DEPTH_BITS | (node.start + offset)
        holding.blocks.update(zip(keys, range(first, first + len(keys)), strict=True))
        node.entries += len(keys)
        added = ((1 << len(keys)) - 1) << offset
        node.hold(holding.seat, node.held(holding.seat) | added)

    def _settle(self, holding: Holding, known: dict[int, int]) -> None:
        """Blocks that were stored again are a further copy, or have moved (an engine that broke its word)."""
        for key, place in known.items():
            if place == _APART:
                holding.copies.pop(key, None)
            elif self._located(place) == self._located(holding.blocks[key]):
                holding.copies[key] = holding.copies.get(key, 1) + 1
                self._runs.drop_entries(self._runs.by_id[place >> _DEPTH_BITS], 1)
            else:
                self._withdraw(holding, key, place)

    def _remove(self, holding: Holding, key: int) -> bool:
        copies = holding.copies.get(key)
        if copies is not None:
            if copies == 2:
                del holding.copies[key]
            else:
                holding.copies[key] = copies - 1
            return True
        place = holding.blocks.pop(key, None)
        if place is not None and place != _APART:
            self._withdraw(holding, key, place)
        return place is not None

    def _withdraw(self, holding: Holding, key: int, place: int) -> None:
        """Ends the credit for the block at `place`, where the entry of `key` pointed until now."""
        holding.copies.pop(key, None)
        node, depth = self._located(place)
        blocks = node.held(holding.seat) & ~(1 << (depth - node.start))
        node.hold(holding.seat, blocks)
        if node.length and not node.full and not node.children and blocks.bit_length() * 2 <= node.length:
            self._runs.tidy(node)
        self._runs.drop_entries(self._runs.by_id[place >> _DEPTH_BITS], 1)

    def _located(self, place: int) -> tuple[Run, int]:
        depth = place & _DEPTH
        return self._runs.by_id[place >> _DEPTH_BITS].at(depth), depth

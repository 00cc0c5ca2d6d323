"""The map proper: which workers hold which blocks, by what their engines said."""

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.places import Places
from kvpool_router.index.runs import Run, RunTree
from kvpool_router.index.seats import below, is_on_gpu, kin

KEY = (1 << 60) - 1
"""Of a 64-bit hash 60 bits are kept: such an int takes 32 bytes, not 48. Two of a worker's million blocks then share a
key with a chance of 1 in 2 million, and what that does is to lose one block's credit."""
DEPTH_BITS = 24
DEPTH = (1 << DEPTH_BITS) - 1
APART = -1
_STEP = 0x9E3779B97F4A7C1
"""Between the keys of blocks that share a hash."""


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
    """One engine's blocks in one tier, by the engine's own hashes."""

    __slots__ = ("copies", "count", "entries", "places", "seat")

    def __init__(self, seat: int) -> None:
        self.seat = seat
        self.count = 1
        """Blocks that one hash stands for: several where a tier moves more at a time than the GPU's cache."""
        self.places = Places()
        """Hash -> id of a run and the block's place in its prompt, packed; or `APART`."""
        self.copies: dict[int, int] = {}
        """How often the engine has a block, for those that it has more than once."""
        self.entries: dict[int, int] = {}
        """Id of a run -> how many places name it."""


def keys_of(hashes: Iterable[int], count: int) -> list[int]:
    """One key a block; the last block of a hash has the hash's own."""
    if count == 1:
        return [value & KEY for value in hashes]
    return [value + part * _STEP & KEY for value in hashes for part in range(count - 1, -1, -1)]


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

    Each tier of an engine has a seat and a map of its own, so that a block whose copy on the GPU is gone is still known
    below it. Where a block is, one tier may learn from another: their hashes are the same.

    Memory is bounded by what the engines hold: a run that nobody has and nothing continues leaves the tree, the unheld
    end of a leaf is cut off once it is the greater half, and a fork that has lost its branch becomes one run again.
    """

    def __init__(self, runs: RunTree) -> None:
        self._runs = runs
        self.holdings: dict[int, Holding] = {}
        self._below_gpu = 0
        """How many of them are of lower tiers."""

    def blocks(self, seat: int) -> int:
        """Distinct blocks that the worker holds in this tier, those apart included."""
        holding = self.holdings.get(seat)
        return len(holding.places) if holding else 0

    def divide(self, seat: int, count: int) -> None:
        """From now on a hash of this tier stands for `count` blocks of this tree."""
        self._holding(seat).count = count

    def count(self, seat: int) -> int:
        """Blocks that one hash of this tier stands for."""
        return self._holding(seat).count

    def reach(self, seat: int, tokens: bytes, namespace: Namespace) -> int:
        """The whole leading blocks that the worker has."""
        return sum(blocks for _, blocks in self._runs.match(tokens, namespace, 1 << seat))

    def store(
        self, seat: int, namespace: Namespace, parent: int | None, hashes: Sequence[int], tokens: bytes
    ) -> Stored:
        """The worker now has these consecutive blocks after `parent`; `tokens` is theirs, whole. At least one block."""
        holding = self._holding(seat)
        keys = keys_of(hashes, holding.count)
        if len(set(keys)) < len(keys):
            return Stored(Outcome.REPEATED)
        if parent is None:
            node, depth = self._runs.root(namespace), 0
        else:
            found = self._known(seat, parent & KEY)
            if found is None:
                return Stored(Outcome.ORPHANED)
            if found == APART:
                self.store_apart(seat, hashes)
                return Stored(Outcome.APART)
            node, last = self.located(found)
            depth = last + 1
        known = self._place(holding, node, depth, keys, tokens)
        if known:
            self._settle(holding, known)
        if self._below_gpu:
            for other in below(seat):
                if other in self.holdings:
                    self._find_lost(self.holdings[other], holding.places, keys)
        return Stored(Outcome.CREDITED, depth)

    def store_known(self, seat: int, hashes: Iterable[int]) -> int:
        """The worker has these blocks in this tier: they are where its other tiers have or had them.

        The others are kept apart until another tier says where they belong. Returns how many are in their place.
        """
        holding = self._holding(seat)
        placed = 0
        for value in hashes:
            found = self._known(seat, value & KEY)
            keys = keys_of((value,), holding.count)
            if found is None or found == APART or (found & DEPTH) < len(keys) - 1:
                self._set_apart(holding, keys)
            else:
                self._put(holding, keys, found)
                placed += 1
        return placed

    def store_apart(self, seat: int, hashes: Iterable[int]) -> None:
        """The worker has these blocks, but no text prompt can match them."""
        holding = self._holding(seat)
        self._set_apart(holding, keys_of(hashes, holding.count))

    def remove(self, seat: int, hashes: Iterable[int]) -> int:
        """The worker has lost one copy of each of these; returns how many of them it was known to have."""
        holding = self.holdings.get(seat)
        if holding is None:
            return 0
        return sum(self._remove(holding, key) for key in keys_of(hashes, holding.count)) // holding.count

    def forget(self, seat: int) -> int:
        """The worker holds nothing here any more, and its seat may be given to another; returns the blocks it had."""
        holding = self.holdings.pop(seat, None)
        if holding is None:
            return 0
        self._below_gpu -= not is_on_gpu(seat)
        touched: set[Run] = set()
        for number, count in holding.entries.items():
            node = self._runs.by_id[number]
            while node not in touched:
                touched.add(node)
                node.hold(seat, 0)
                node = node.parent
            self._runs.drop_entries(self._runs.by_id[number], count)
        for node in touched:
            if node.length:
                self._runs.tidy(node)
        return len(holding.places)

    def located(self, place: int) -> tuple[Run, int]:
        """The run that holds a place now, and the block's number in its prompt."""
        depth = place & DEPTH
        return self._runs.by_id[place >> DEPTH_BITS].at(depth), depth

    def _set_apart(self, holding: Holding, keys: list[int]) -> None:
        for key in keys:
            known = holding.places.get(key)
            holding.places.put(key, APART)
            if known == APART:
                holding.copies[key] = holding.copies.get(key, 1) + 1
            elif known is not None:
                self._withdraw(holding, key, known)

    def _holding(self, seat: int) -> Holding:
        holding = self.holdings.get(seat)
        if holding is None:
            holding = self.holdings[seat] = Holding(seat)
            self._below_gpu += not is_on_gpu(seat)
        return holding

    def _known(self, seat: int, key: int) -> int | None:
        """Where a block is that any tier of the worker holds, this one first; None if none does."""
        place = self._held_in(seat, key)
        if place is not None or not self._below_gpu:
            return place
        found = (self._held_in(other, key) for other in kin(seat))
        return next((place for place in found if place not in (None, APART)), None)

    def _held_in(self, seat: int, key: int) -> int | None:
        holding = self.holdings.get(seat)
        place = None if holding is None else holding.places.get(key)
        if place is None or place == APART:
            return place
        node, depth = self.located(place)
        return place if node.held(seat) >> (depth - node.start) & 1 else None

    def _find_lost(self, holding: Holding, places: Places, found: list[int]) -> None:
        """Another tier has just said where these are: those that this one keeps apart belong there too."""
        for key in found:
            place = places.get(key)
            if holding.places.get(key) != APART or place is None or (place & DEPTH) < holding.count - 1:
                continue
            keys = keys_of((key,), holding.count)
            copies = [holding.copies.get(each, 1) for each in keys]
            self._put(holding, keys, place)
            holding.copies.update({each: more for each, more in zip(keys, copies, strict=True) if more > 1})

    def _put(self, holding: Holding, keys: list[int], last: int) -> None:
        """Gives blocks the places of another tier's copies, that of the last being `last`."""
        number = last >> DEPTH_BITS
        for place, key in enumerate(keys, last - len(keys) + 1):
            node, depth = self.located(place)
            node.hold(holding.seat, node.held(holding.seat) | 1 << (depth - node.start))
            self._runs.by_id[number].entries += 1
            holding.entries[number] = holding.entries.get(number, 0) + 1
            known = holding.places.enter((key,), place)
            if known:
                self._settle(holding, known)

    def _place(self, holding: Holding, node: Run, depth: int, keys: list[int], tokens: bytes) -> dict[int, int]:
        """Walks down from the node that ends at, or holds, the place `depth`; makes runs where there are none.

        Returns where those of the keys that were known before led.
        """
        size, done = self._runs.block_bytes, 0
        known: dict[int, int] = {}
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
            known |= self._enter(holding, node, offset, keys[done : done + count])
            done += count
            depth += count
        return known

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

    def _enter(self, holding: Holding, node: Run, offset: int, keys: list[int]) -> dict[int, int]:
        number, count = node.id, len(keys)
        node.entries += count
        holding.entries[number] = holding.entries.get(number, 0) + count
        node.hold(holding.seat, node.held(holding.seat) | ((1 << count) - 1) << offset)
        return holding.places.enter(keys, number << DEPTH_BITS | (node.start + offset))

    def _settle(self, holding: Holding, known: dict[int, int]) -> None:
        """Blocks that were stored again are a further copy, or have moved (an engine that broke its word)."""
        for key, place in known.items():
            if place == APART:
                holding.copies.pop(key, None)
            elif self._is_same(place, holding.places.get(key)):
                holding.copies[key] = holding.copies.get(key, 1) + 1
                self._drop_entry(holding, place)
            else:
                self._withdraw(holding, key, place)

    def _is_same(self, one: int, other: int | None) -> bool:
        return other is not None and self.located(one) == self.located(other)

    def _remove(self, holding: Holding, key: int) -> bool:
        copies = holding.copies.get(key)
        if copies is not None:
            if copies == 2:
                del holding.copies[key]
            else:
                holding.copies[key] = copies - 1
            return True
        place = holding.places.pop(key)
        if place is not None and place != APART:
            self._withdraw(holding, key, place)
        return place is not None

    def _withdraw(self, holding: Holding, key: int, place: int) -> None:
        """Ends the credit for the block at `place`, where the entry of `key` pointed until now."""
        holding.copies.pop(key, None)
        node, depth = self.located(place)
        blocks = node.held(holding.seat) & ~(1 << (depth - node.start))
        node.hold(holding.seat, blocks)
        if node.length and not node.full and not node.children and blocks.bit_length() * 2 <= node.length:
            self._runs.tidy(node)
        self._drop_entry(holding, place)

    def _drop_entry(self, holding: Holding, place: int) -> None:
        number = place >> DEPTH_BITS
        left = holding.entries[number] - 1
        if left:
            holding.entries[number] = left
        else:
            del holding.entries[number]
        self._runs.drop_entries(self._runs.by_id[number], 1)

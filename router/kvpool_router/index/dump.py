"""What one tier of a worker holds, as the events that would tell it from the beginning."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from kvpool_router.events.wire import BlockRemoved, BlockStored, KvEvent, TokenIds
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import Run, RunTree
from kvpool_router.index.tiers import Tier
from kvpool_router.index.tree import APART, DEPTH, DEPTH_BITS, Holding, PrefixTree

_STEP_BLOCKS = 512
_NO_TEXT = (("no text", 0),)
"""Extra keys, as of an image, by which no text prompt can match the block."""


class _Piece(NamedTuple):
    """A run as it was when the worker was frozen; `held` is the worker's part of it."""

    start: int
    length: int
    tokens: bytes
    parent: Run
    held: int


class Frozen:
    """One tier's blocks as of one moment.

    The maps are copied and the runs' tokens, which never change in place, are referred to; so freezing takes some
    nanoseconds a block and a microsecond a run, and everything slow comes after it, in steps.
    """

    def __init__(self, runs: RunTree, tree: PrefixTree, seat: int, tier: Tier, group: int | None) -> None:
        holding = tree.holdings.get(seat, Holding(seat))
        self._block_bytes = runs.block_bytes
        self._block_tokens = runs.block_tokens
        self._tier = tier
        self._group = group
        self._count = holding.count
        self._places = holding.places.copy()
        self._copies = dict(holding.copies)
        self._runs = {number: runs.by_id[number] for number in holding.entries}
        self._pieces: dict[Run, _Piece] = {}
        self._namespaces: dict[Run, Namespace] = {}
        for node in self._runs.values():
            while not node.is_root and node not in self._pieces:
                self._pieces[node] = _Piece(node.start, node.length, node.tokens, node.parent, node.held(seat))
                node = node.parent
            if node.is_root and node.children:
                self._namespaces[node] = runs.namespace(node)
        self._free_keys = (key for key in count(1) if key not in self._places)

    def events(self) -> Iterator[Sequence[KvEvent]]:
        """Runs from the start of their prompts on; what leads to them unheld is stored too, and removed at last."""
        yield (self._stored([], None, b"", [], None, self._block_tokens),)
        keys: dict[Run, dict[int, list[int]]] = {}
        apart: list[int] = []
        for step, (key, place) in enumerate(self._places.items()):
            if not step % _STEP_BLOCKS:
                yield ()
            node = None if place == APART else self._at(place)
            if node is None:
                apart.append(key)
            else:
                keys.setdefault(node, {}).setdefault((place & DEPTH) - self._pieces[node].start, []).append(key)
        yield from self._text(keys)
        for first in range(0, len(apart), _STEP_BLOCKS):
            yield self._apart(apart[first : first + _STEP_BLOCKS])
        if self._count > 1:
            yield (self._stored([], None, b"", [], None, self._block_tokens * self._count),)

    def _at(self, place: int) -> Run | None:
        """The run that held the block, if the worker had it there."""
        node, depth = self._runs[place >> DEPTH_BITS], place & DEPTH
        while (piece := self._pieces.get(node)) is not None and piece.start > depth:
            node = piece.parent
        return node if piece is not None and piece.held >> (depth - piece.start) & 1 else None

    def _text(self, keys: dict[Run, dict[int, list[int]]]) -> Iterator[Sequence[KvEvent]]:
        lengths = {node: max(own) + 1 for node, own in keys.items()}
        for node in keys:
            while (parent := self._pieces[node].parent) in self._pieces and lengths.get(parent) != DEPTH:
                lengths[parent] = DEPTH
                node = parent
        ends: dict[Run, int] = {}
        borrowed: list[int] = []
        for node in sorted(lengths, key=lambda node: self._pieces[node].start):
            piece, own = self._pieces[node], keys.get(node, {})
            line = [own[at][0] if at in own else 0 for at in range(min(lengths[node], piece.length))]
            unheld = [at for at, key in enumerate(line) if not key]
            for at, key in zip(unheld, self._free_keys, strict=False):
                line[at] = key
                borrowed.append(key)
            ends[node] = line[-1]
            before = (ends.get(piece.parent), *line)
            namespace = self._namespaces.get(piece.parent)
            events = [self._stored(line, before[0], piece.tokens, [None] * len(line), namespace)]
            for at, those in own.items():
                again = those[1:] + [key for key in those for _ in range(1, self._copies.get(key, 1))]
                block = piece.tokens[at * self._block_bytes : (at + 1) * self._block_bytes]
                events += [self._stored([key], before[at], block, [None], None if at else namespace) for key in again]
            yield events
        for first in range(0, len(borrowed), _STEP_BLOCKS):
            yield (BlockRemoved(borrowed[first : first + _STEP_BLOCKS], self._tier.name, self._group),)

    def _apart(self, keys: list[int]) -> list[KvEvent]:
        listed = keys + [key for key in keys for _ in range(1, self._copies.get(key, 1))]
        return [self._stored([key], None, bytes(self._block_bytes), [_NO_TEXT], None) for key in listed]

    def _stored(
        self,
        hashes: list[int],
        parent: int | None,
        tokens: bytes,
        extra_keys: list[tuple[object, ...] | None],
        namespace: Namespace | None,
        block_tokens: int | None = None,
    ) -> BlockStored:
        adapter, salt = namespace or Namespace()
        if salt is not None:
            extra_keys[0] = (salt,) if adapter is None else (adapter, salt)
        return BlockStored(
            hashes,
            parent,
            TokenIds(tokens[: len(hashes) * self._block_bytes]),
            block_tokens or self._block_tokens,
            medium=self._tier.name,
            lora_name=adapter,
            extra_keys=extra_keys,
            group_idx=self._group,
        )


def freeze(runs: RunTree, tree: PrefixTree, seat: int, tier: Tier, group: int | None) -> list[Frozen]:
    """The tier's blocks; none of a tier below the GPU that never had any."""
    return [Frozen(runs, tree, seat, tier, group)] if tier is Tier.GPU or seat in tree.holdings else []

"""A radix tree over runs of token blocks: the shape that the map, the predictions and the history share."""

import sys
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from kvpool_router.index.namespace import Namespace

TOKEN_BYTES = 4
LONGEST_RUN_BLOCKS = 512
"""A longer prefix is several nodes, so that growing, cutting and masking a run is cheap for prompts of any length."""

SIGNPOST = sys.maxsize
"""`start` of a run that was joined into its child."""

_NO_CHILDREN: Final[dict[bytes, Any]] = {}
_NO_PART: Final[dict[int, int]] = {}
"""Shared and never written: most nodes have neither children nor partial holders, and an empty dict is 64 bytes."""


class Reach(NamedTuple):
    """How far a set of workers (one bit each) follows a prompt."""

    members: int
    blocks: int


class Run:
    """One node: the blocks `start` to `start + length` of every prompt that passes through it.

    `full` is the set of workers that have the whole run; `part` names, for the few that have some of it, the blocks
    (worker's bit -> bitset of blocks).

    Cutting and joining leave others with an old idea of which node holds a block. They find it by climbing: while
    `start` is beyond the block, go to `parent` (`at`). So a cut keeps the tail in the old object and puts a new one
    above it, and a run that is joined into its child stays behind as a signpost that points to the child. A root is
    its own parent.
    """

    __slots__ = ("children", "full", "length", "parent", "part", "start", "tokens")

    def __init__(self, start: int, tokens: bytes, length: int, parent: Self | None) -> None:
        self.start = start
        self.tokens = tokens
        self.length = length
        self.parent: Self = self if parent is None else parent
        self.children: dict[bytes, Self] = _NO_CHILDREN
        self.full = 0
        self.part = _NO_PART

    def at(self, block: int) -> Self:
        """The node that holds the prompt's block number `block` now."""
        node = self
        while node.start > block:
            node = node.parent
        return node

    @property
    def is_root(self) -> bool:
        return self.parent is self

    @property
    def is_bare(self) -> bool:
        """Nobody has any of it and nothing continues it."""
        return not (self.full or self.part or self.children)


RunT = TypeVar("RunT", bound=Run)


class RunTree(Generic[RunT]):
    """Prompts as paths. Subclasses decide what puts a worker on a run, and make the nodes.

        root(namespace) ── [b0 b1 b2 b3] ── [b4 b5]         children are found by their first block of tokens
                                        └── [b4' b5' b6']

    A run is one bytes object, so that following a prompt is one memcmp a node.
    """

    def __init__(self, block_tokens: int, longest_run: int = LONGEST_RUN_BLOCKS) -> None:
        self._block = block_tokens * TOKEN_BYTES
        self._longest = longest_run
        self._roots: dict[Namespace, RunT] = {}
        self._namespaces: dict[RunT, Namespace] = {}

    def match(self, tokens: bytes, namespace: Namespace, eligible: int) -> list[Reach]:
        """Disjoint sets of the eligible workers with the whole leading blocks that they have; without those at zero."""
        node = self._roots.get(namespace)
        reaches: list[Reach] = []
        depth, size = 0, self._block
        while node is not None and node.children and eligible:
            child = node.children.get(tokens[depth * size : (depth + 1) * size])
            if child is None:
                break
            same = child.length
            if not tokens.startswith(child.tokens, depth * size):
                same = self._same_blocks(child, 0, tokens, depth)
            staying = eligible & child.full
            for bit, blocks in child.part.items():
                if eligible >> bit & 1:
                    leading = (~blocks & (blocks + 1)).bit_length() - 1
                    if leading >= same:
                        staying |= 1 << bit
                    elif leading:
                        reaches.append(Reach(1 << bit, depth + leading))
                        eligible ^= 1 << bit
            if depth and eligible != staying:
                reaches.append(Reach(eligible ^ staying, depth))
            eligible = staying
            depth += same
            node = child if same == child.length else None
        if depth and eligible:
            reaches.append(Reach(eligible, depth))
        return reaches

    def path(self, node: RunT) -> bytes:
        """The tokens of all blocks from the start of the prompt to the end of `node`."""
        node = node.at(SIGNPOST - 1)
        runs = []
        while not node.is_root:
            runs.append(node.tokens)
            node = node.parent
        return b"".join(reversed(runs))

    def _same_blocks(self, node: RunT, offset: int, tokens: bytes, first: int) -> int:
        """Whole blocks in which the node from `offset` on agrees with `tokens` from block `first` on, by bisection."""
        size = self._block
        limit = min(node.length - offset, len(tokens) // size - first)
        run = node.tokens[offset * size : (offset + limit) * size]
        other = tokens[first * size : (first + limit) * size]
        if run == other:
            return limit
        same, differs = 0, limit
        while differs - same > 1:
            middle = (same + differs) // 2
            if run[same * size : middle * size] == other[same * size : middle * size]:
                same = middle
            else:
                differs = middle
        return same

    def _node(self, start: int, tokens: bytes, length: int, parent: RunT | None) -> RunT:
        raise NotImplementedError

    def _root(self, namespace: Namespace) -> RunT:
        root = self._roots.get(namespace)
        if root is None:
            root = self._roots[namespace] = self._node(0, b"", 0, None)
            self._namespaces[root] = namespace
        return root

    def _attach(self, parent: RunT, tokens: bytes) -> RunT:
        """Continues `parent` by a new run that nobody has yet."""
        child = self._node(parent.start + parent.length, tokens, len(tokens) // self._block, parent)
        if not parent.children:
            parent.children = {}
        parent.children[tokens[: self._block]] = child
        return child

    def _cut(self, tail: RunT, blocks: int) -> RunT:
        """Cuts a run after its first `blocks` and returns the new head; the old object keeps the tail."""
        split = blocks * self._block
        head = self._node(tail.start, tail.tokens[:split], blocks, tail.parent)
        tail.parent.children[head.tokens[: self._block]] = head
        tail.start += blocks
        tail.length -= blocks
        tail.tokens = tail.tokens[split:]
        tail.parent = head
        head.children = {tail.tokens[: self._block]: tail}
        head.full = tail.full
        held, tail.part = tail.part, _NO_PART
        for bit, those in held.items():
            _hold(head, bit, those & ((1 << blocks) - 1))
            _hold(tail, bit, those >> blocks)
        return head

    def _detach(self, node: RunT) -> None:
        """Takes a bare run out of the tree. The object may live on: it still leads to its parent."""
        parent = node.parent
        del parent.children[node.tokens[: self._block]]
        if not parent.children:
            parent.children = _NO_CHILDREN
        self._leave(node)

    def _leave(self, node: RunT) -> None:
        """The node is no longer part of the tree."""
        node.tokens = b""
        node.length = 0

    def _prune(self, node: RunT) -> None:
        """Takes `node` out if it is bare, then what that leaves bare above it; joins what is left without a fork."""
        while node.is_bare and not node.is_root:
            parent = node.parent
            self._detach(node)
            node = parent
        if node.is_root:
            if not node.children:
                del self._roots[self._namespaces.pop(node)]
        elif len(node.children) == 1:
            (child,) = node.children.values()
            if self._alike(node, child):
                self._join(node, child)

    def _alike(self, node: RunT, child: RunT) -> bool:
        """Whether the two could be one run."""
        short = node.length + child.length <= self._longest
        return short and node.full == child.full and not node.part and not child.part

    def _join(self, node: RunT, child: RunT) -> None:
        """Puts a run in front of its only child, which takes its place."""
        parent = node.parent
        parent.children[node.tokens[: self._block]] = child
        child.tokens = node.tokens + child.tokens
        child.start = node.start
        child.length += node.length
        child.parent = parent
        node.start, node.parent, node.children, node.full = SIGNPOST, child, _NO_CHILDREN, 0
        self._leave(node)


def _hold(node: Run, bit: int, blocks: int) -> None:
    """Sets which blocks of a run the worker has, given that it does not have all yet."""
    part = node.part
    if blocks and blocks == (1 << node.length) - 1:
        node.full |= 1 << bit
        blocks = 0
    if blocks:
        if not part:
            part = node.part = {}
        part[bit] = blocks
    elif bit in part:
        del part[bit]
        if not part:
            node.part = _NO_PART


def held_blocks(node: Run, bit: int) -> int:
    """Which blocks of a run the worker has, as a bitset."""
    if node.full >> bit & 1:
        return (1 << node.length) - 1
    return node.part.get(bit, 0)


def hold_blocks(node: Run, bit: int, blocks: int) -> None:
    """Makes `blocks` what the worker has of a run."""
    node.full &= ~(1 << bit)
    _hold(node, bit, blocks)

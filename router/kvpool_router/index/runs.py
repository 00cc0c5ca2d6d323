"""A radix tree over runs of token blocks, which the map, the predictions and the history share."""

import sys
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from kvpool_router.index.namespace import Namespace

TOKEN_BYTES = 4
LONGEST_RUN_BLOCKS = 512
"""A longer prefix is several nodes, so that growing, cutting and masking a run is cheap for prompts of any length."""

SIGNPOST = sys.maxsize
"""`start` of a run that was joined into its child."""

_NO_CHILDREN: Final[dict[bytes, Any]] = {}
_NO_PART: Final[dict[int, int]] = {}
_NO_MARKS: Final[dict[int, int]] = {}
"""Shared and never written: most nodes have none of these, and an empty dict takes 64 bytes."""


Reach: TypeAlias = tuple[int, int]
"""A set of seats and how many leading blocks of a prompt its members have. A plain tuple: a lookup makes several."""


class Run:
    """One node: the blocks `start` to `start + length` of every prompt that passes through it.

    `full` is the set of seats that have the whole run. `part` names, for the few that have some of it, the blocks
    (seat -> bitset of blocks). `marks` says of seats that fade what keeps them here.

    Cutting and joining leave others with an old idea of which node holds a block. They find it by climbing: while
    `start` is beyond the block, go to `parent` (`at`). So a cut keeps the tail in the old object and puts a new one
    above it, and a run that is joined into its child stays behind as a signpost that points to the child. A root is
    its own parent. `id` stands for the node where an object would be too large; `entries` counts the places where it
    does.
    """

    __slots__ = ("children", "entries", "full", "id", "length", "marks", "parent", "part", "start", "tokens")

    def __init__(self, number: int, start: int, tokens: bytes, length: int, parent: "Run | None") -> None:
        self.id = number
        self.start = start
        self.tokens = tokens
        self.length = length
        self.parent: Run = self if parent is None else parent
        self.children: dict[bytes, Run] = _NO_CHILDREN
        self.full = 0
        self.part = _NO_PART
        self.marks = _NO_MARKS
        self.entries = 0

    def at(self, block: int) -> "Run":
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

    def held(self, seat: int) -> int:
        """Which of its blocks the seat has, as a bitset."""
        if self.full >> seat & 1:
            return (1 << self.length) - 1
        return self.part.get(seat, 0)

    def hold(self, seat: int, blocks: int) -> None:
        """Makes `blocks` (a bitset) what the seat has."""
        self.full &= ~(1 << seat)
        if blocks and blocks == (1 << self.length) - 1:
            self.full |= 1 << seat
            blocks = 0
        if blocks:
            if not self.part:
                self.part = {}
            self.part[seat] = blocks
        elif seat in self.part:
            del self.part[seat]
            if not self.part:
                self.part = _NO_PART

    def beyond(self, members: int, offset: int, stride: int, layers: Sequence[int]) -> list[Reach]:
        """The members, by where the first block after `offset` is that none of their seats in the layers has."""
        whole = 0
        for layer in layers:
            whole |= self.full >> layer & members
        found = [(whole, self.length)] if whole else []
        rest, held = members ^ whole, dict[int, int]()
        for seat, blocks in self.part.items():
            layer = seat % stride
            if layer in layers and rest >> (seat - layer) & 1:
                held[seat - layer] = held.get(seat - layer, 0) | blocks
        for member, blocks in held.items():
            found.append((1 << member, offset + _leading(blocks >> offset)))
            rest ^= 1 << member
        return [*found, (rest, offset)] if rest else found

    def mark(self, seat: int, mark: int) -> None:
        """The seat has the whole run, for as long as the mark stands."""
        if not self.marks:
            self.marks = {}
        self.marks[seat] = mark
        self.full |= 1 << seat

    def unmark(self, seat: int) -> None:
        del self.marks[seat]
        if not self.marks:
            self.marks = _NO_MARKS
        self.full ^= 1 << seat


class RunTree:
    """Prompts as paths.

        root(namespace) ── [b0 b1 b2 b3] ── [b4 b5]         children are found by their first block of tokens
                                        └── [b4' b5' b6']

    A run is one bytes object, so that following a prompt is one memcmp a node. What engines hold, what they are about
    to hold and what they were sent are seats in one tree, so that one walk answers for all three and tokens are kept
    once; who takes which seat is decided elsewhere.
    """

    def __init__(self, block_tokens: int, longest_run: int = LONGEST_RUN_BLOCKS) -> None:
        self.block_tokens = block_tokens
        self.block_bytes = block_tokens * TOKEN_BYTES
        self.longest_run = longest_run
        self.by_id: dict[int, Run] = {}
        """The nodes of the tree, and those that have left it while entries still lead through them."""
        self._next_id = 1
        self._roots: dict[Namespace, Run] = {}
        self._namespaces: dict[Run, Namespace] = {}

    @property
    def namespaces(self) -> int:
        return len(self._roots)

    def namespace(self, root: Run) -> Namespace:
        """Whose prompts begin at a root that is in the tree."""
        return self._namespaces[root]

    def match(self, tokens: bytes, namespace: Namespace, eligible: int) -> list[Reach]:
        """Disjoint sets of the eligible seats with the whole leading blocks that they have, if any."""
        node = self._roots.get(namespace)
        reaches: list[Reach] = []
        depth, size = 0, self.block_bytes
        while node is not None and eligible:
            start = depth * size
            child = node.children.get(tokens[start : start + size])
            if child is None:
                break
            same = child.length
            if not tokens.startswith(child.tokens, start):
                same = self.same_blocks(child, 0, tokens, depth)
            staying = eligible & child.full
            if child.part:
                partial = [(1 << seat, _leading(those)) for seat, those in child.part.items() if eligible >> seat & 1]
                staying |= sum(member for member, blocks in partial if blocks >= same)
                ending = [(member, depth + blocks) for member, blocks in partial if blocks < same]
                reaches += ending
                eligible ^= sum(member for member, _ in ending)
            if eligible != staying:
                if depth:
                    reaches.append((eligible ^ staying, depth))
                eligible = staying
            depth += same
            node = child if same == child.length else None
        if depth and eligible:
            reaches.append((eligible, depth))
        return reaches

    def onward(
        self, tokens: bytes, namespace: Namespace, starts: list[Reach], stride: int, layers: Sequence[int]
    ) -> list[Reach]:
        """How far those who have so many leading blocks (`starts`, disjoint sets) get with other seats of theirs.

        A member of a set is a multiple of `stride` and has the seats `member + layer`; one of these must have each
        further block. Who starts beyond the end of the prompt's path is left out.
        """
        node = self._roots.get(namespace)
        depth, size, going = 0, self.block_bytes, 0
        waiting = sorted(starts, key=itemgetter(1), reverse=True)
        ends: list[Reach] = []
        while node is not None and (going or waiting):
            child = node.children.get(tokens[depth * size : (depth + 1) * size])
            if child is None:
                break
            same = self.same_blocks(child, 0, tokens, depth)
            here = [(going, depth)] if going else []
            while waiting and waiting[-1][1] < depth + same:
                here.append(waiting.pop())
            going = 0
            for members, start in here:
                for some, blocks in child.beyond(members, start - depth, stride, layers):
                    if blocks >= same:
                        going |= some
                    else:
                        ends.append((some, depth + blocks))
            depth += same
            node = child if same == child.length else None
        return [*ends, (going, depth)] if going else ends

    def path(self, node: Run) -> bytes:
        """The tokens of all blocks from the start of the prompt to the end of `node`."""
        node = node.at(SIGNPOST - 1)
        runs = []
        while not node.is_root:
            runs.append(node.tokens)
            node = node.parent
        return b"".join(reversed(runs))

    def same_blocks(self, node: Run, offset: int, tokens: bytes, first: int) -> int:
        """Whole blocks in which the node from `offset` on agrees with `tokens` from block `first` on, by bisection."""
        size = self.block_bytes
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

    def root(self, namespace: Namespace) -> Run:
        root = self._roots.get(namespace)
        if root is None:
            root = self._roots[namespace] = Run(-1, 0, b"", 0, None)
            self._namespaces[root] = namespace
        return root

    def attach(self, parent: Run, tokens: bytes) -> Run:
        """Continues `parent` by a new run that nobody has yet."""
        child = self._node(parent.start + parent.length, tokens, parent)
        if not parent.children:
            parent.children = {}
        parent.children[tokens[: self.block_bytes]] = child
        return child

    def cut(self, tail: Run, blocks: int) -> Run:
        """Cuts a run after its first `blocks` and returns the new head; the old object keeps the tail."""
        split = blocks * self.block_bytes
        head = self._node(tail.start, tail.tokens[:split], tail.parent)
        tail.parent.children[head.tokens[: self.block_bytes]] = head
        tail.start += blocks
        tail.length -= blocks
        tail.tokens = tail.tokens[split:]
        tail.parent = head
        head.children = {tail.tokens[: self.block_bytes]: tail}
        head.full = tail.full
        if tail.marks:
            head.marks = dict(tail.marks)
        held, tail.part = tail.part, _NO_PART
        for seat, those in held.items():
            head.hold(seat, those & ((1 << blocks) - 1))
            tail.hold(seat, those >> blocks)
        if tail.is_bare:
            self._detach(tail)
        return head

    def _node(self, start: int, tokens: bytes, parent: Run) -> Run:
        node = Run(self._next_id, start, tokens, len(tokens) // self.block_bytes, parent)
        self.by_id[node.id] = node
        self._next_id += 1
        return node

    def _detach(self, node: Run) -> None:
        """Takes a bare run out of the tree. The object may live on: it still leads to its parent."""
        parent = node.parent
        del parent.children[node.tokens[: self.block_bytes]]
        if not parent.children:
            parent.children = _NO_CHILDREN
        self._leave(node)

    def _leave(self, node: Run) -> None:
        node.tokens = b""
        node.length = 0
        self.drop_entries(node, 0)

    def drop_entries(self, node: Run, count: int) -> None:
        """So many places less name the node by its id."""
        node.entries -= count
        if not node.entries and not node.length:
            del self.by_id[node.id]

    def tidy(self, node: Run) -> None:
        """To be called where seats have lost blocks of `node`: gives back what nobody needs any more.

        Takes the node out if it is bare, then what that leaves bare above it. What remains is joined with an only child
        that does not differ, and an end that nobody has is cut off once it is the greater half.
        """
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
        elif not node.children and not node.full:
            self._trim(node)

    def _trim(self, leaf: Run) -> None:
        length = max(blocks.bit_length() for blocks in leaf.part.values())
        if length * 2 <= leaf.length:
            leaf.tokens = leaf.tokens[: length * self.block_bytes]
            leaf.length = length
            for seat, blocks in tuple(leaf.part.items()):
                leaf.hold(seat, blocks)

    def _alike(self, node: Run, child: Run) -> bool:
        """Whether the two could be one run."""
        short = node.length + child.length <= self.longest_run
        return short and node.full == child.full and node.marks == child.marks and not node.part and not child.part

    def _join(self, node: Run, child: Run) -> None:
        """Puts a run in front of its only child, which takes its place."""
        parent = node.parent
        parent.children[node.tokens[: self.block_bytes]] = child
        child.tokens = node.tokens + child.tokens
        child.start = node.start
        child.length += node.length
        child.parent = parent
        node.start, node.parent, node.children, node.full, node.marks = SIGNPOST, child, _NO_CHILDREN, 0, _NO_MARKS
        self._leave(node)


def _leading(blocks: int) -> int:
    """How many blocks from the first on are in the set without a gap."""
    return (~blocks & (blocks + 1)).bit_length() - 1

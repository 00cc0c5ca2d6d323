"""Prompts that were sent to workers, as paths that fade in the order in which they were made."""

from typing import Self

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import SIGNPOST, Run, RunTree


class Trail(Run):
    """A run with the stamp of the last prompt that led each worker over it."""

    __slots__ = ("stamps",)

    def __init__(self, start: int, tokens: bytes, length: int, parent: Self | None) -> None:
        super().__init__(start, tokens, length, parent)
        self.stamps: dict[int, int] = {}


class TrailTree(RunTree[Trail]):
    """Which workers were sent which prefix.

    A prompt stamps every run of its path, so a run's stamp is never older than those below it. To undo a prompt it is
    enough to climb from its last run for as long as the stamp is its own: O(runs), whatever the prompt's length.
    """

    def mark(self, bit: int, tokens: bytes, namespace: Namespace, stamp: int) -> tuple[Trail, int]:
        """The last run of the prompt's whole blocks (at least one) and how many of them are new to the worker."""
        size = self._block
        node, depth, fresh, total = self._root(namespace), 0, 0, len(tokens) // size
        while depth < total:
            child = node.children.get(tokens[depth * size : (depth + 1) * size])
            if child is None:
                child = self._attach(node, tokens[depth * size : min(total, depth + self._longest) * size])
            elif (same := self._same_blocks(child, 0, tokens, depth)) < child.length:
                child = self._cut(child, same)
            fresh += 0 if bit in child.stamps else child.length
            child.stamps[bit] = stamp
            child.full |= 1 << bit
            depth += child.length
            node = child
        return node, fresh

    def unmark(self, bit: int, last: Trail, stamp: int) -> int:
        """Undoes the prompt that ended at `last`, where no later one went; returns the blocks that the worker lost."""
        last = last.at(SIGNPOST - 1)
        node, lost = last, 0
        while node.stamps.get(bit) == stamp:
            del node.stamps[bit]
            node.full ^= 1 << bit
            lost += node.length
            node = node.parent
        if lost:
            self._prune(last)
        return lost

    def _node(self, start: int, tokens: bytes, length: int, parent: Trail | None) -> Trail:
        return Trail(start, tokens, length, parent)

    def _cut(self, tail: Trail, blocks: int) -> Trail:
        head = super()._cut(tail, blocks)
        head.stamps.update(tail.stamps)
        return head

    def _alike(self, node: Trail, child: Trail) -> bool:
        return super()._alike(node, child) and node.stamps == child.stamps

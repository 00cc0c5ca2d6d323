"""Prompts as trails through the tree, which fade in the order in which they were made."""

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import SIGNPOST, Run, RunTree


def mark(runs: RunTree, seat: int, tokens: bytes, namespace: Namespace, stamp: int) -> tuple[Run, int]:
    """Leads the seat over the prompt's whole blocks (at least one). Returns the last run and the blocks new to it.

    A prompt stamps every run of its path, so a run's stamp is never older than those below it. To undo a prompt it is
    enough to climb from its last run for as long as the stamp is its own: O(runs), whatever the prompt's length.
    """
    size = runs.block_bytes
    node, depth, fresh, total = runs.root(namespace), 0, 0, len(tokens) // size
    while depth < total:
        child = node.children.get(tokens[depth * size : (depth + 1) * size])
        if child is None:
            child = runs.attach(node, tokens[depth * size : min(total, depth + runs.longest_run) * size])
        elif (same := runs.same_blocks(child, 0, tokens, depth)) < child.length:
            child = runs.cut(child, same)
        fresh += child.stamp(seat, stamp)
        depth += child.length
        node = child
    return node, fresh


def unmark(runs: RunTree, seat: int, last: Run, stamp: int) -> int:
    """Undoes the prompt that ended at `last`, where no later one went; returns the blocks that the seat lost."""
    node = last = last.at(SIGNPOST - 1)
    lost = 0
    while node.stamps.get(seat) == stamp:
        node.unstamp(seat)
        lost += node.length
        node = node.parent
    if lost:
        runs.tidy(last)
    return lost

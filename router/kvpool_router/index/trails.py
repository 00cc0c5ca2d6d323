"""The way of one prompt through the tree."""

from collections.abc import Iterator

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import SIGNPOST, Run, RunTree


def lay(runs: RunTree, tokens: bytes, namespace: Namespace) -> Run:
    """The run that ends with the prompt's last whole block (there is at least one), made where there is none.

    A new run is nobody's: the caller must seat somebody on it at once.
    """
    size = runs.block_bytes
    node, depth, total = runs.root(namespace), 0, len(tokens) // size
    while depth < total:
        child = node.children.get(tokens[depth * size : (depth + 1) * size])
        if child is None:
            child = runs.attach(node, tokens[depth * size : min(total, depth + runs.longest_run) * size])
        elif (same := runs.same_blocks(child, 0, tokens, depth)) < child.length:
            child = runs.cut(child, same)
        depth += child.length
        node = child
    return node


def upward(last: Run) -> Iterator[Run]:
    """The runs of a prompt that ended at `last` when it was laid, the last one first."""
    node = last.at(SIGNPOST - 1)
    while not node.is_root:
        yield node
        node = node.parent

"""The tree itself, where the answers of the whole index do not show it."""

from functools import reduce
from operator import or_

from hypothesis import given
from hypothesis import strategies as st
from index_oracle import BLOCK_TOKENS, tokens_of
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import RunTree
from kvpool_router.index.tree import PrefixTree

PLAIN = Namespace()
paths = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple)


@given(st.lists(st.tuples(st.integers(0, 5), paths), max_size=30), st.lists(st.integers(0, 40), max_size=10), paths)
def test_a_lookup_names_each_seat_at_most_once(stored, removed, asked):
    runs = RunTree(BLOCK_TOKENS, longest_run=3)
    tree = PrefixTree(runs)
    for seat, path in stored:
        tree.store(seat, PLAIN, None, [hash(path[:end]) for end in range(1, len(path) + 1)], tokens_of(path))
    for number in removed:
        seat, path = stored[number % len(stored)] if stored else (0, (0,))
        tree.remove(seat, [hash(path[: 1 + number % len(path)])])
    reaches = runs.match(tokens_of(asked), PLAIN, 0b111111)
    assert (
        sum(members.bit_count() for members, _ in reaches)
        == reduce(or_, (members for members, _ in reaches), 0).bit_count()
    )
    assert all(tree.reach(seat, tokens_of(asked), PLAIN) <= len(asked) for seat in range(6))

"""Events that contradict themselves or one another may cost their own engine credit; nothing else."""

from itertools import product

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from index_oracle import BLOCK_TOKENS, tokens_of
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.answers import Applied, Held
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId

LIAR, HONEST = WorkerId("liar", 0), WorkerId("honest", 0)
PLAIN = Namespace()

hashes = st.integers(1, 6)
extra_keys = st.none() | st.lists(st.none() | st.just(("image",)) | st.just((("image", 3),)), max_size=4)


@st.composite
def untrue_events(draw: st.DrawFn) -> BlockStored | BlockRemoved | AllBlocksCleared:
    """Any hash with any tokens after any parent."""
    kind = draw(st.integers(0, 9))
    listed = draw(st.lists(hashes, max_size=4))
    if kind == 0:
        return AllBlocksCleared()
    if kind <= 3:
        return BlockRemoved(listed, "GPU", 0)
    blocks = tuple(draw(st.lists(st.integers(0, 1), min_size=len(listed), max_size=len(listed))))
    parent = draw(st.none() | hashes)
    return BlockStored(listed, parent, TokenIds(tokens_of(blocks)), BLOCK_TOKENS, extra_keys=draw(extra_keys))


@settings(max_examples=250, deadline=None)
@given(st.lists(untrue_events(), max_size=50), st.integers(1, 3))
def test_lies_raise_nothing_touch_nobody_else_and_are_forgotten_whole(events, longest_run):
    index = CacheMap(BLOCK_TOKENS, 1.0, None, longest_run)
    true = BlockStored([101, 102, 103], None, TokenIds(tokens_of((0, 1, 0))), BLOCK_TOKENS)
    index.apply(HONEST, [true])
    index.apply(LIAR, events)
    asked = tokens_of((0, 1, 0, 9))
    assert index.match(asked, PLAIN, 0.0)[HONEST] == Held(6, 6, 6, 6)
    copy = CacheMap(BLOCK_TOKENS, 1.0, None, longest_run)
    for dumped in index.dump(LIAR):
        copy.apply(LIAR, dumped)
    assert copy.blocks(LIAR) == index.blocks(LIAR)
    for path in product((0, 1), repeat=4):
        both = (each.match(tokens_of((*path, 9)), PLAIN, 0.0).get(LIAR) for each in (index, copy))
        assert next(both) == next(both)
    index.drop(LIAR)
    assert index.match(asked, PLAIN, 0.0) == {HONEST: Held(6, 6, 6, 6)}
    index.drop(HONEST)
    assert index.size() == (0, 0, 0, 0, 0)


def test_a_block_under_two_hashes_loses_its_credit_with_the_first_and_has_no_children_then():
    index = CacheMap(BLOCK_TOKENS, 1.0, None)
    block, child = TokenIds(tokens_of((0, 1))), TokenIds(tokens_of((2,)))
    index.apply(LIAR, [BlockStored([1, 2], None, block, BLOCK_TOKENS), BlockStored([3, 4], None, block, BLOCK_TOKENS)])
    index.apply(LIAR, [BlockRemoved([1, 2])])
    assert index.match(tokens_of((0, 1, 9)), PLAIN, 0.0) == {}
    assert index.apply(LIAR, [BlockStored([5], 4, child, BLOCK_TOKENS)]) == Applied(orphaned=1)
    assert index.apply(LIAR, [BlockRemoved([3, 4])]) == Applied(removed=2)
    assert index.size() == (0, 0, 0, 0, 1)


def test_a_hash_that_moves_takes_its_credit_along():
    index = CacheMap(BLOCK_TOKENS, 1.0, None)
    for block in (0, 1):
        index.apply(LIAR, [BlockStored([7], None, TokenIds(tokens_of((block,))), BLOCK_TOKENS)])
    assert index.match(tokens_of((0, 9)), PLAIN, 0.0) == {}
    assert index.match(tokens_of((1, 9)), PLAIN, 0.0)[LIAR].cached_tokens == BLOCK_TOKENS
    assert index.blocks(LIAR) == 1


def test_a_hash_that_moves_is_one_copy_again():
    index = CacheMap(BLOCK_TOKENS, 1.0, None)
    first, second = (TokenIds(tokens_of((block,))) for block in (0, 1))
    for block in (first, first, second):
        index.apply(LIAR, [BlockStored([7], None, block, BLOCK_TOKENS)])
    index.apply(LIAR, [BlockRemoved([7])])
    assert (index.blocks(LIAR), index.match(tokens_of((1, 9)), PLAIN, 0.0)) == (0, {})


def test_a_block_that_turns_out_to_be_text_is_one_copy_again():
    index = CacheMap(BLOCK_TOKENS, 1.0, None)
    text = BlockStored([7], None, TokenIds(tokens_of((1,))), BLOCK_TOKENS)
    image = msgspec.structs.replace(text, extra_keys=[(("image", 0),)])
    index.apply(LIAR, [image, image, text, BlockRemoved([7])])
    assert (index.blocks(LIAR), index.match(tokens_of((1, 9)), PLAIN, 0.0)) == (0, {})

"""Each worker is kept in blocks of its engine's size, whatever the router's is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.wire import BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.answers import Applied
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId

PLAIN = Namespace()
SIZES = (1, 2, 3, 4)
WORKERS = {size: WorkerId(f"pod-{size}", 0) for size in SIZES}
LONGEST = 24


def tokens(count: int, start: int = 0) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in range(start, count))


def stored(size: int, first: int, last: int) -> BlockStored:
    """Blocks `first` to before `last` of the one prompt, hashed by their numbers."""
    hashes = list(range(first + 1, last + 1))
    return BlockStored(hashes, first or None, TokenIds(tokens(last * size, first * size)), size, group_idx=0)


ends = st.tuples(st.integers(0, 5), st.integers(1, 6)).filter(lambda two: two[0] < two[1])
deeds = st.tuples(st.sampled_from(SIZES), st.sampled_from(("store", "remove", "send")), ends)


@given(st.lists(deeds, max_size=30), st.integers(1, LONGEST))
def test_a_worker_among_others_of_other_sizes_is_answered_as_if_the_router_had_its_size(history, asked):
    together = CacheMap(3, 60.0, 1000)
    alone = {size: CacheMap(size, 60.0, 1000) for size in SIZES}
    for size in SIZES:
        for index in (together, alone[size]):
            index.apply(WORKERS[size], [stored(size, 0, 1)])
    for size, deed, (first, last) in history:
        for index in (together, alone[size]):
            if deed == "send":
                index.sent(WORKERS[size], tokens(last * size), PLAIN, 0.0)
            else:
                event = stored(size, first, last) if deed == "store" else BlockRemoved([last])
                index.apply(WORKERS[size], [event])
    answers = together.match(tokens(asked), PLAIN, 0.0)
    for size in SIZES:
        expected = alone[size].match(tokens(asked), PLAIN, 0.0)
        assert answers.get(WORKERS[size]) == expected.get(WORKERS[size])
        assert together.block_tokens(WORKERS[size]) == size
    for size in SIZES:
        together.drop(WORKERS[size])
    assert together.size() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("hold", "release"), [("suspend", "resume"), ("conceal", "resume"), ("distrust", "trust")])
def test_what_held_back_a_worker_holds_it_back_when_its_size_turns_out(hold, release):
    index, worker = CacheMap(3, 60.0, None), WORKERS[2]
    index.set_history(worker, 6)
    getattr(index, hold)(worker)
    index.apply(worker, [stored(2, 0, 3)])
    assert index.match(tokens(9), PLAIN, 0.0) == {}
    getattr(index, release)(worker)
    assert index.match(tokens(9), PLAIN, 0.0)[worker].cached_tokens == 6
    index.sent(worker, tokens(2), PLAIN, 0.0)
    assert index.match(tokens(9), PLAIN, 0.0)[worker].history_tokens == 6
    index.apply(worker, [BlockRemoved([1, 2, 3])])
    assert index.match(tokens(9), PLAIN, 0.0)[worker].history_tokens == 2


def test_an_engine_does_not_change_its_block_size_while_it_holds_blocks():
    index, worker = CacheMap(3, 60.0, None), WORKERS[2]
    index.apply(worker, [stored(2, 0, 3)])
    assert index.apply(worker, [stored(4, 0, 1)]) == Applied(refused=1)
    index.drop(worker)
    assert index.apply(worker, [stored(4, 0, 1)]) == Applied(stored=1)


def test_a_dump_says_that_an_engine_has_other_attention_groups_and_which_one_counts():
    index, other, worker = CacheMap(2, 60.0, None), CacheMap(2, 60.0, None), WORKERS[2]
    second = stored(2, 0, 1)
    second.group_idx = 1
    index.apply(worker, [stored(2, 0, 1), second, BlockRemoved([1], group_idx=0)])
    for events in index.dump(worker):
        other.apply(worker, events)
    assert other.is_hybrid(worker)
    assert other.apply(worker, [second]) == Applied(refused=1)


def test_a_dump_says_the_block_size_even_of_an_empty_cache():
    index, other, worker = CacheMap(3, 60.0, None), CacheMap(3, 60.0, None), WORKERS[2]
    index.apply(worker, [stored(2, 0, 1), BlockRemoved([1])])
    for events in index.dump(worker):
        other.apply(worker, events)
    assert other.block_tokens(worker) == 2

"""A watch sees the least and the most that a worker had of a prompt, whatever happens in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId

A, B = WorkerId("a", 0), WorkerId("b", 0)
PLAIN = Namespace()
BLOCK = 2
LONGEST = 5


def tokens(*blocks: int) -> bytes:
    return b"".join(block.to_bytes(4, "little") * BLOCK for block in blocks)


def stored(first: int, last: int) -> BlockStored:
    """Blocks `first` to before `last` of the one prompt, hashed by their numbers."""
    numbers = list(range(first, last))
    return BlockStored(numbers, first - 1 if first else None, TokenIds(tokens(*numbers)), BLOCK)


PROMPT = tokens(*range(LONGEST)) + b"\0\0\0\0"
STORES = st.tuples(st.integers(0, LONGEST - 1), st.integers(1, LONGEST)).filter(lambda ends: ends[0] < ends[1])
EVENTS = STORES.map(lambda ends: stored(*ends)) | st.integers(0, LONGEST - 1).map(lambda one: BlockRemoved([one]))
EVENTS |= st.just(AllBlocksCleared())


@given(st.lists(EVENTS, max_size=12), st.lists(EVENTS, max_size=12), st.booleans())
def test_a_watch_tells_the_extremes_that_asking_after_every_event_tells(before, after, singly):
    index = CacheMap(BLOCK, 10.0, None)
    index.apply(A, before)

    def held() -> int:
        found = index.match(PROMPT, PLAIN, 0.0).get(A)
        return found.cached_tokens // BLOCK if found else 0

    watch = index.watch(A, PROMPT, PLAIN)
    asked = [held()]
    mirror = CacheMap(BLOCK, 10.0, None)
    mirror.apply(A, before)
    for event in after:
        mirror.apply(A, [event])
        found = mirror.match(PROMPT, PLAIN, 0.0).get(A)
        asked.append(found.cached_tokens // BLOCK if found else 0)
    for events in [[event] for event in after] if singly else [after]:
        index.apply(A, events)
    index.look_away(A, watch)
    assert (watch.at_first, watch.least, watch.most) == (asked[0], min(asked), max(asked))
    assert not watch.lost


def test_a_watch_that_has_ended_sees_nothing_more():
    index = CacheMap(BLOCK, 10.0, None)
    watch = index.watch(A, PROMPT, PLAIN)
    index.look_away(A, watch)
    index.apply(A, [stored(0, 3), BlockRemoved([2]), stored(2, 3)])
    index.look_away(A, watch)
    assert (watch.least, watch.most) == (0, 0)


def test_a_prompt_of_whole_blocks_is_watched_without_its_last():
    index = CacheMap(BLOCK, 10.0, None)
    index.apply(A, [stored(0, 3)])
    assert index.watch(A, tokens(0, 1, 2), PLAIN).at_first == 2


@pytest.mark.parametrize("loss", [CacheMap.drop, CacheMap.suspend])
def test_a_watch_is_lost_with_the_workers_map_and_others_go_on(loss):
    index = CacheMap(BLOCK, 10.0, None)
    for worker in (A, B):
        index.apply(worker, [stored(0, 3)])
    lost, kept = index.watch(A, PROMPT, PLAIN), index.watch(B, PROMPT, PLAIN)
    loss(index, A)
    index.look_away(A, lost)
    index.look_away(B, kept)
    assert lost.lost
    assert not kept.lost


def test_a_watch_that_looks_away_is_still_lost_with_the_map_and_an_ended_one_is_not():
    index = CacheMap(BLOCK, 10.0, None)
    away, ended = index.watch(A, PROMPT, PLAIN), index.watch(A, PROMPT, PLAIN)
    index.look_away(A, away)
    index.unwatch(A, ended)
    index.suspend(A)
    assert (away.lost, ended.lost) == (True, False)


def test_a_distrusted_worker_gets_no_credit_through_drops_and_resumes_until_it_is_trusted():
    index = CacheMap(BLOCK, 10.0, None)
    index.apply(A, [stored(0, 3)])
    index.distrust(A)
    index.suspend(A)
    index.resume(A)
    assert not index.match(PROMPT, PLAIN, 0.0)
    assert index.watch(A, PROMPT, PLAIN).at_first == 3
    index.drop(A)
    index.apply(A, [stored(0, 2)])
    index.sent(A, PROMPT, PLAIN, 0.0)
    assert not index.match(PROMPT, PLAIN, 0.0)
    index.trust(A)
    assert index.match(PROMPT, PLAIN, 0.0)[A].cached_tokens == 2 * BLOCK


def test_a_model_with_further_attention_groups_is_known_to_be_hybrid_until_its_map_is_dropped():
    index = CacheMap(BLOCK, 10.0, None)
    full = stored(0, 2)
    index.apply(A, [BlockStored(full.block_hashes, None, full.token_ids, BLOCK, group_idx=0)])
    assert not index.is_hybrid(A)
    index.apply(A, [BlockStored(full.block_hashes, None, full.token_ids, BLOCK, group_idx=1)])
    assert index.is_hybrid(A)
    index.drop(A)
    assert not index.is_hybrid(A)

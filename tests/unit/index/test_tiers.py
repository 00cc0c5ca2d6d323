"""Blocks below the GPU: where they are, how far they reach, and what takes them away."""

from itertools import chain
from typing import Any

import pytest
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.answers import Applied, Held
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.tiers import Tier
from kvpool_router.workers import WorkerId

A, B = WorkerId("a", 0), WorkerId("b", 0)
PLAIN = Namespace()
BLOCK = 4


def tokens(*blocks: int) -> bytes:
    return b"".join(block.to_bytes(4, "little") * BLOCK for block in blocks)


def prompt(*blocks: int) -> bytes:
    return tokens(*blocks) + b"\0\0\0\0"


def stored(*blocks: int, parent: int | None = None, **fields: Any) -> BlockStored:  # noqa: ANN401
    return BlockStored(list(blocks), parent, TokenIds(tokens(*blocks)), BLOCK, group_idx=0, **fields)


def offloaded(*hashes: int, medium: str = "CPU", block_size: int = 0) -> BlockStored:
    """As vLLM's connector tells it unless it is told to describe itself."""
    return BlockStored(list(hashes), None, TokenIds(), block_size, medium=medium, group_idx=0)


@pytest.fixture
def index() -> CacheMap:
    return CacheMap(BLOCK, prediction_ttl_s=10.0, history_tokens=None)


def blocks(held: Held) -> tuple[int, int, int]:
    return held.cached_tokens // BLOCK, held.predicted_tokens // BLOCK, held.reachable_tokens // BLOCK


def test_a_block_below_the_gpu_keeps_its_place_when_the_gpus_copy_goes(index):
    index.apply(A, [stored(1, 2, 3)])
    assert index.apply(A, [offloaded(1), offloaded(2), offloaded(3)]) == Applied(offloaded=3)
    index.apply(A, [BlockRemoved([3, 2])])
    assert blocks(index.match(prompt(1, 2, 3), PLAIN, 0.0)[A]) == (1, 1, 3)
    index.apply(A, [BlockRemoved([1])])
    assert blocks(index.match(prompt(1, 2, 3), PLAIN, 0.0)[A]) == (0, 0, 3)
    index.apply(A, [BlockRemoved([2], "CPU", 0)])
    assert blocks(index.match(prompt(1, 2, 3), PLAIN, 0.0)[A]) == (0, 0, 1)
    index.apply(A, [stored(4, parent=3)])
    assert index.blocks(A) == 1


def test_tiers_go_on_from_where_the_gpu_ends_and_from_one_another(index):
    index.apply(A, [stored(1, 2, 3, 4, 5), offloaded(2), offloaded(3, medium="STORAGE"), offloaded(5)])
    index.apply(A, [BlockRemoved([5, 4, 3, 2])])
    assert blocks(index.match(prompt(1, 2, 3, 4, 5), PLAIN, 0.0)[A]) == (1, 1, 3)
    index.sent(A, prompt(1, 2, 3, 4), PLAIN, 0.0)
    assert blocks(index.match(prompt(1, 2, 3, 4, 5), PLAIN, 0.0)[A]) == (1, 4, 5)


def test_what_is_below_anothers_gpu_is_of_no_use(index):
    index.apply(A, [stored(1, 2)])
    index.apply(B, [stored(1), offloaded(2)])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[B]) == (1, 1, 1)


def test_a_block_known_by_its_hash_alone_is_found_once_the_gpu_says_where_it_is(index):
    index.apply(A, [stored(9)])
    assert index.apply(A, [offloaded(1), offloaded(2), offloaded(2)]) == Applied(orphaned=3)
    assert A not in index.match(prompt(1, 2), PLAIN, 0.0)
    index.apply(A, [stored(1, 2), BlockRemoved([2, 1])])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (0, 0, 2)
    index.apply(A, [BlockRemoved([2], "CPU")])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (0, 0, 2)
    index.apply(A, [BlockRemoved([2], "CPU")])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (0, 0, 1)


@pytest.mark.parametrize(("medium", "left"), [("CPU", (2, 2, 2)), ("GPU", (0, 0, 2)), (None, None)])
def test_a_clearing_empties_the_tier_that_it_names_and_all_if_it_names_none(index, medium, left):
    index.apply(A, [stored(1, 2), offloaded(1), offloaded(2)])
    index.apply(A, [AllBlocksCleared(medium)])
    found = index.match(prompt(1, 2), PLAIN, 0.0).get(A)
    assert (found and blocks(found)) == left


def test_events_that_name_no_extra_keys_are_not_believed_to_be_of_a_plain_prompt(index):
    index.apply(A, [stored(9)])
    assert index.apply(A, [stored(1, 2, medium="CPU")]) == Applied(orphaned=2)
    assert index.apply(A, [stored(3, 4, medium="CPU", extra_keys=[None, None])]) == Applied(offloaded=2)
    assert blocks(index.match(prompt(3, 4), PLAIN, 0.0)[A]) == (0, 0, 2)
    assert A not in index.match(prompt(1, 2), PLAIN, 0.0)


def test_a_salted_prompt_keeps_its_salt_below_the_gpu(index):
    index.apply(A, [stored(1, 2, extra_keys=[("salt",), None]), offloaded(1), offloaded(2), BlockRemoved([2, 1])])
    assert index.match(prompt(1, 2), PLAIN, 0.0) == {}
    assert blocks(index.match(prompt(1, 2), Namespace(None, "salt"), 0.0)[A]) == (0, 0, 2)


def test_an_image_is_below_the_gpu_what_it_was_above(index):
    index.apply(A, [stored(1, 2, extra_keys=[None, (("image", 0),)]), offloaded(1), offloaded(2)])
    index.apply(A, [BlockRemoved([2, 1])])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (0, 0, 1)


def test_only_the_attention_group_that_counts_on_the_gpu_counts_below_it(index):
    index.apply(A, [stored(1, 2)])
    other = offloaded(1)
    other.group_idx = 1
    assert index.apply(A, [other]) == Applied(refused=1)
    assert index.apply(B, [offloaded(1)]) == Applied(refused=1)
    assert [index.is_hybrid(worker) for worker in (A, B)] == [True, False]


def test_a_hash_may_stand_for_several_of_the_gpus_blocks(index):
    index.apply(A, [stored(1, 2, 3, 4, 5, 6), offloaded(2, 4, 6, block_size=2 * BLOCK)])
    index.apply(A, [BlockRemoved([6, 5, 4, 3, 2])])
    assert blocks(index.match(prompt(1, 2, 3, 4, 5, 6), PLAIN, 0.0)[A]) == (1, 1, 6)
    copy = CacheMap(BLOCK, 10.0, None)
    copy.apply(A, list(chain.from_iterable(index.dump(A))))
    for each in (index, copy):
        each.apply(A, [BlockRemoved([4], "CPU")])
        assert blocks(each.match(prompt(1, 2, 3, 4, 5, 6), PLAIN, 0.0)[A]) == (1, 1, 2)
        each.apply(A, [BlockRemoved([2, 6], "CPU"), BlockRemoved([1])])
        assert each.size().runs == 0


def test_a_coarse_block_known_by_its_hash_alone_is_found_whole(index):
    index.apply(A, [stored(9), offloaded(2, block_size=2 * BLOCK), stored(1, 2), BlockRemoved([2, 1])])
    assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (0, 0, 2)


def test_a_coarse_block_that_would_begin_before_its_prompt_gets_no_credit(index):
    index.apply(A, [stored(1), offloaded(1, block_size=2 * BLOCK), BlockRemoved([1])])
    assert A not in index.match(prompt(1, 2), PLAIN, 0.0)


def test_a_worker_that_gives_no_credit_gives_none_below_its_gpu(index):
    index.apply(A, [stored(1, 2), offloaded(1), offloaded(2)])
    for hold, release in ((index.suspend, index.resume), (index.conceal, index.resume), (index.distrust, index.trust)):
        hold(A)
        assert A not in index.match(prompt(1, 2), PLAIN, 0.0)
        release(A)
        assert blocks(index.match(prompt(1, 2), PLAIN, 0.0)[A]) == (2, 2, 2)


def test_blocks_are_counted_by_tier(index):
    index.apply(A, [stored(1, 2), offloaded(1), offloaded(7)])
    assert [index.blocks(A, tier) for tier in Tier] == [2, 2, 0]
    index.drop(A)
    assert [index.blocks(A, tier) for tier in Tier] == [0, 0, 0]
    assert index.size() == (0, 0, 0, 0, 0)


def test_a_watch_counts_what_could_be_loaded_as_engines_count_it() -> None:
    index = CacheMap(BLOCK, prediction_ttl_s=10.0, history_tokens=100_000)
    index.apply(A, [stored(1, 2, 3), offloaded(1), offloaded(2), offloaded(3), BlockRemoved([2, 3])])
    watch = index.watch(A, prompt(1, 2, 3), PLAIN)
    assert (watch.at_first, watch.least, watch.most) == (3, 3, 3)
    index.apply(A, [BlockRemoved([3], "CPU")])
    index.look_away(A, watch)
    assert (watch.least, watch.most) == (2, 3)

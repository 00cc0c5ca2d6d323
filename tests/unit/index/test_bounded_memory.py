"""What the index takes follows what engines hold, not what has passed through."""

import random

import pytest
from index_oracle import BLOCK_TOKENS, tokens_of
from kvpool_router.events.wire import BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId

A, B = WorkerId("a", 0), WorkerId("b", 0)
PLAIN = Namespace()


def stored(path: tuple[int, ...], start: int = 0, salt: str | None = None) -> BlockStored:
    hashes = [hash((salt, path[:end])) & (1 << 60) - 1 for end in range(start, len(path) + 1)]
    keys: list[tuple[str, ...] | None] = [None] * (len(path) - start)
    if salt and not start:
        keys[0] = (salt,)
    parent = hashes[0] if start else None
    return BlockStored(hashes[1:], parent, TokenIds(tokens_of(path[start:])), BLOCK_TOKENS, extra_keys=keys)


def removed(path: tuple[int, ...], start: int = 0, salt: str | None = None) -> BlockRemoved:
    """The end of the prompt first, as engines evict."""
    return BlockRemoved([hash((salt, path[:end])) & (1 << 60) - 1 for end in range(len(path), start, -1)])


def test_ten_turnovers_of_a_cache_leave_no_more_than_one():
    index, rng = CacheMap(BLOCK_TOKENS, 10.0, 4000), random.Random(1)
    live: list[tuple[tuple[int, ...], int]] = []
    sizes = []
    for turn in range(2000):
        head = tuple(range(rng.randrange(1, 8)))
        path = head + tuple(rng.randrange(8, 1 << 31) for _ in range(20))
        index.sent(A, tokens_of(path), PLAIN, float(turn))
        index.apply(A, [stored(path)])
        live.append((path, len(head)))
        if len(live) > 100:
            index.apply(A, [removed(*live.pop(0))])
        if turn % 200 == 199:
            sizes.append(index.size())
    assert max(size.runs for size in sizes) <= 1.1 * sizes[1].runs
    assert max(size.token_bytes for size in sizes) <= 1.1 * sizes[1].token_bytes


def test_the_end_that_engines_evict_is_not_kept_and_what_each_still_has_is():
    index = CacheMap(BLOCK_TOKENS, 10.0, None)
    path = tuple(range(100))
    index.apply(A, [stored(path)])
    index.apply(B, [stored(path[:30])])
    for left in (50, 10):
        index.apply(A, [removed(path, left)])
        found = index.match(tokens_of(path), PLAIN, 0.0)
        assert {worker: held.cached_tokens // BLOCK_TOKENS for worker, held in found.items()} == {A: left, B: 30}
    assert index.size().token_bytes <= 60 * BLOCK_TOKENS * 4


def test_an_unheld_end_goes_when_the_run_is_cut_before_it():
    index = CacheMap(BLOCK_TOKENS, 10.0, None)
    path = tuple(range(10))
    index.apply(A, [stored(path), removed(path, 7)])
    index.apply(B, [stored((*path[:7], 99))])
    assert index.size().token_bytes == 8 * BLOCK_TOKENS * 4


def test_a_prompt_sent_again_and_again_is_remembered_once():
    index = CacheMap(BLOCK_TOKENS, 10.0, 100)
    for turn in range(100):
        for prompt in ((1, 2), (1, 2, 3)):
            index.sent(A, tokens_of(prompt), PLAIN, turn / 10)
    assert index.size() == (2, 3 * BLOCK_TOKENS * 4, 2, 1, 1)
    index.drop(A)
    assert index.size() == (0, 0, 0, 0, 0)


def test_a_fork_that_lost_its_branch_is_one_run_again():
    index = CacheMap(BLOCK_TOKENS, 10.0, None)
    path = tuple(range(40))
    index.apply(A, [stored(path)])
    for fork in range(1, 40):
        branch = (*path[:fork], 99, 98)
        index.apply(A, [stored(branch, fork), removed(branch, fork)])
    assert index.size().runs == 1
    index.apply(A, [removed(path)])
    assert index.size() == (0, 0, 0, 0, 1)


def test_a_namespace_without_blocks_is_forgotten():
    index = CacheMap(BLOCK_TOKENS, 10.0, None)
    for tenant in range(100):
        index.apply(A, [stored((1, 2), salt=f"tenant-{tenant}"), removed((1, 2), salt=f"tenant-{tenant}")])
    assert index.size() == (0, 0, 0, 0, 1)
    assert index.blocks(A) == 0


def test_restarts_leave_nothing_behind():
    index = CacheMap(BLOCK_TOKENS, 10.0, 100)
    index.apply(B, [stored((0, 1, 2))])
    index.sent(B, tokens_of((0, 1, 2)), PLAIN, 0.0)
    before = index.size()
    for restart in range(50):
        index.apply(A, [stored((0, 1, restart, 5))])
        index.sent(A, tokens_of((0, 1, restart, 6)), PLAIN, 0.0)
        index.drop(A)
    assert index.size().token_bytes == before.token_bytes
    assert index.size().runs <= before.runs + 2


@pytest.mark.parametrize("order", [1, -1])
def test_whoever_leaves_last_takes_the_tokens_along(order):
    index = CacheMap(BLOCK_TOKENS, 10.0, None)
    index.apply(A, [stored((1, 2, 3, 4))])
    index.apply(B, [stored((1, 2, 5))])
    for worker in (A, B)[::order]:
        index.drop(worker)
    assert index.size() == (0, 0, 0, 0, 0)

"""What the index credits, and what it does not."""

import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, TokenIds, decode
from kvpool_router.index.answers import Applied, Held, Size
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace, identity
from kvpool_router.workers import WorkerId

A, B, C = WorkerId("a", 0), WorkerId("b", 0), WorkerId("b", 1)
PLAIN = Namespace()
BLOCK = 4


def tokens(*blocks: int) -> bytes:
    return b"".join(block.to_bytes(4, "little") * BLOCK for block in blocks)


def prompt(*blocks: int) -> bytes:
    """Those blocks and one token more, so that all of them can be reused."""
    return tokens(*blocks) + b"\0\0\0\0"


def stored(*blocks: int, parent: int | None = None, **fields: Any) -> BlockStored:  # noqa: ANN401
    """Each block is hashed by its own number."""
    return BlockStored(
        **{
            "block_hashes": list(blocks),
            "parent_block_hash": parent,
            "token_ids": TokenIds(tokens(*blocks)),
            "block_size": BLOCK,
        }
        | fields
    )


@pytest.fixture
def index() -> CacheMap:
    return CacheMap(BLOCK, prediction_ttl_s=10.0, history_tokens=100_000)


def cached(index: CacheMap, asked: bytes, namespace: Namespace = PLAIN) -> dict[WorkerId, int]:
    found = index.match(asked, namespace, 0.0)
    return {worker: held.cached_tokens // BLOCK for worker, held in found.items() if held.cached_tokens}


def test_what_an_engine_of_vllm_0_32_published_is_credited_as_its_usage_said():
    lines = (Path(__file__).parents[1] / "events" / "wire" / "captured_vllm_0_32_0.jsonl").read_text().splitlines()
    first, second, third, salted, *_ = (decode(bytes.fromhex(json.loads(line)[2])) for line in lines)
    index = CacheMap(32, 10.0, None)
    assert index.apply(A, (*first.events, *second.events, *third.events)) == Applied(stored=26)
    (head,), (branch,) = first.events, second.events  # the second continues all but the last block of the first
    assert isinstance(head, BlockStored)
    assert isinstance(branch, BlockStored)
    asked = head.token_ids[: 12 * 32 * 4] + branch.token_ids + b"\0\0\0\0"
    assert index.match(asked, PLAIN, 0.0)[A].cached_tokens == 13 * 32
    index.apply(A, salted.events)
    tenant = array("I", range(100, 293)).tobytes()
    assert index.match(tenant, PLAIN, 0.0) == {}
    assert index.match(tenant, Namespace(None, "tenant-a"), 0.0)[A].cached_tokens == 6 * 32


def test_the_last_token_of_a_prompt_is_never_credited(index):
    index.apply(A, [stored(1, 2, 3)])
    assert cached(index, tokens(1, 2, 3)) == {A: 2}
    assert cached(index, prompt(1, 2, 3)) == {A: 3}
    assert cached(index, tokens(1)) == cached(index, b"") == {}


def test_a_block_stored_twice_counts_once_until_its_last_copy_goes(index):
    index.apply(A, [stored(1, 2), stored(1, 2), stored(1)])
    assert index.blocks(A) == 2
    assert index.apply(A, [BlockRemoved([1, 2]), BlockRemoved([1])]) == Applied(removed=3)
    assert cached(index, prompt(1, 2)) == {A: 2}
    assert index.apply(A, [BlockRemoved([2]), BlockRemoved([1])]) == Applied(removed=2)
    assert (index.blocks(A), cached(index, prompt(1, 2))) == (0, {})


def test_a_removal_in_the_middle_cuts_the_match_until_the_block_returns(index):
    index.apply(A, [stored(1, 2, 3, 4), BlockRemoved([2])])
    assert cached(index, prompt(1, 2, 3, 4)) == {A: 1}
    index.apply(A, [stored(2, parent=1)])
    assert cached(index, prompt(1, 2, 3, 4)) == {A: 4}


def test_a_fork_leaves_each_worker_what_it_holds_before_and_after_it(index):
    index.apply(A, [stored(1, 2, 3, 4, 5, 6)])
    index.apply(B, [stored(1, 2, 3, 4), BlockRemoved([2])])
    index.apply(A, [stored(9, parent=3)])
    assert cached(index, prompt(1, 2, 3, 4, 5, 6)) == {A: 6, B: 1}
    assert cached(index, prompt(1, 2, 3, 9)) == {A: 4, B: 1}
    index.apply(B, [stored(2, parent=1)])
    assert cached(index, prompt(1, 2, 3, 4, 5, 6)) == {A: 6, B: 4}


def test_an_orphan_is_counted_and_gives_no_credit(index):
    assert index.apply(A, [stored(2, 3, parent=1)]) == Applied(orphaned=2)
    index.apply(B, [stored(1)])
    assert index.apply(A, [stored(2, 3, parent=1)]) == Applied(orphaned=2)
    assert cached(index, prompt(1, 2, 3)) == {B: 1}


def test_a_removal_of_what_is_not_held_is_counted(index):
    assert index.apply(A, [BlockRemoved([7, 8])]) == Applied(unknown=2)
    index.apply(A, [stored(7)])
    assert index.apply(A, [BlockRemoved([7, 8])]) == Applied(removed=1, unknown=1)


def test_a_cleared_cache_gives_no_credit_and_fills_again(index):
    assert index.apply(A, [stored(1), AllBlocksCleared(), stored(1, 2)]) == Applied(stored=3, cleared=1)
    assert cached(index, prompt(1, 2)) == {A: 2}


@pytest.mark.parametrize(
    "fields",
    [
        {"medium": "DISK"},
        {"locality": "REMOTE"},
        {"block_size": 2 * BLOCK},
        {"token_ids": TokenIds(tokens(1))},
        {"kv_cache_spec_kind": "sliding_window"},
        {"kv_cache_spec_kind": "mamba"},
        {"lora_id": 1},
        {"extra_keys": [(("image", 0),), None]},
        {"extra_keys": [(b"embeddings",), None]},
        {"extra_keys": [("salt", b"embeddings"), None]},
        {"extra_keys": []},
        {"lora_name": "ada", "extra_keys": [(("image", 0),), ("ada",)]},
        {"block_hashes": [1, 1]},
        {"block_hashes": [1, (1 << 60) + 1]},
    ],
)
def test_what_no_text_prompt_can_use_is_counted_and_not_credited(index, fields):
    assert index.apply(A, [stored(1, 2, **fields)]) == Applied(refused=2)
    for namespace in (PLAIN, Namespace(None, "salt"), Namespace("ada", None)):
        assert cached(index, prompt(1, 2), namespace) == {}


def test_events_of_other_tiers_take_no_gpu_block_away(index):
    index.apply(A, [stored(1), stored(1, medium="CPU")])
    away = [BlockRemoved([1], "CPU"), BlockRemoved([1], "GPU", locality="REMOTE"), AllBlocksCleared("CPU")]
    assert index.apply(A, away) == Applied(removed=1, refused=1)
    assert cached(index, prompt(1)) == {A: 1}


def test_only_the_first_full_attention_group_counts(index):
    window = {"group_idx": 0, "kv_cache_spec_kind": "sliding_window"}
    full = {"group_idx": 1, "kv_cache_spec_kind": "full_attention"}
    second = {"group_idx": 2, "kv_cache_spec_kind": "full_attention"}
    applied = index.apply(A, [stored(1, **window), stored(1, **full), stored(1, **second)])
    assert applied == Applied(stored=1, refused=2)
    assert index.apply(A, [BlockRemoved([1], group_idx=0), BlockRemoved([1], group_idx=2)]) == Applied(refused=2)
    assert cached(index, prompt(1)) == {A: 1}
    assert index.apply(A, [BlockRemoved([1], group_idx=1)]) == Applied(removed=1)
    assert cached(index, prompt(1)) == {}


@pytest.mark.parametrize("kind", ["full_attention", "mla_attention", "sink_full_attention", None])
def test_whole_prompt_attention_of_any_kind_counts(index, kind):
    assert index.apply(A, [stored(1, kv_cache_spec_kind=kind, group_idx=0)]) == Applied(stored=1)


def test_text_before_an_image_is_credited_and_nothing_after_it_is(index):
    assert index.apply(A, [stored(1, 2, 3, extra_keys=[None, (("image", 2),), None])]) == Applied(stored=1, refused=2)
    assert index.apply(A, [stored(4, parent=3), stored(5, parent=4)]) == Applied(refused=2)
    assert (index.blocks(A), cached(index, prompt(1, 2, 3, 4))) == (5, {A: 1})
    assert index.apply(A, [stored(4, parent=3)]) == Applied(refused=1)
    assert index.apply(A, [BlockRemoved([4, 3, 4, 5])]) == Applied(removed=4)
    assert index.blocks(A) == 2


def test_adapters_and_salts_are_worlds_of_their_own(index):
    index.apply(A, [stored(1, 2, lora_name="ada", lora_id=1, extra_keys=[("ada", "salt"), ("ada",)])])
    index.apply(B, [stored(1, 2, lora_name="ada", lora_id=1, extra_keys=[(1,), (1,)])])
    index.apply(C, [stored(1, 2, extra_keys=[("salt",), None])])
    assert cached(index, prompt(1, 2)) == {}
    assert cached(index, prompt(1, 2), Namespace("ada", "salt")) == {A: 2}
    assert cached(index, prompt(1, 2), Namespace("ada", None)) == {B: 2}
    assert cached(index, prompt(1, 2), Namespace(None, "salt")) == {C: 2}


def test_a_string_in_a_later_block_is_no_salt():
    event = stored(1, 2, extra_keys=[None, ("digest",)])
    assert identity(event) == (PLAIN, 1)
    assert identity(stored(2, parent=1, extra_keys=[("digest",)])) == (PLAIN, 0)


def test_a_suspended_worker_has_no_credit_and_loses_nothing(index):
    index.apply(A, [stored(1)])
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    index.suspend(A)
    assert index.match(prompt(1, 2), PLAIN, 0.0) == {A: Held(0, 0, 2 * BLOCK, 0)}
    index.apply(A, [stored(2, parent=1)])
    index.resume(A)
    assert index.match(prompt(1, 2), PLAIN, 0.0)[A].cached_tokens == 2 * BLOCK


def test_a_worker_that_takes_a_dropped_ones_seat_inherits_nothing(index):
    index.set_history(A, 8)
    index.apply(A, [stored(1, 2, group_idx=3), stored(1)])
    index.sent(A, prompt(1, 5), PLAIN, 0.0)
    index.suspend(A)
    index.apply(B, [stored(1)])
    index.drop(A)
    index.drop(A)
    assert (index.blocks(A), index.blocks(B)) == (0, 1)
    assert index.apply(C, [stored(9, group_idx=0)]) == Applied(stored=1)
    index.sent(C, prompt(6, 7, 8), PLAIN, 0.0)
    assert index.match(prompt(1, 2), PLAIN, 0.0) == {B: Held(BLOCK, BLOCK, BLOCK, BLOCK)}
    assert index.match(prompt(9), PLAIN, 0.0) == {C: Held(BLOCK, BLOCK, BLOCK, BLOCK)}
    assert index.match(prompt(6, 7, 8), PLAIN, 0.0) == {C: Held(0, 3 * BLOCK, 3 * BLOCK, 3 * BLOCK)}


def test_a_prediction_lasts_its_time_and_no_longer(index):
    index.sent(A, prompt(1, 2), PLAIN, 100.0)
    index.sent(B, tokens(1), PLAIN, 105.0)
    assert index.match(prompt(1, 2), PLAIN, 109.9)[A].predicted_tokens == 2 * BLOCK
    assert index.match(prompt(1, 2), PLAIN, 110.0) == {A: Held(0, 0, 2 * BLOCK, 0), B: Held(0, BLOCK, BLOCK, BLOCK)}
    index.sent(A, prompt(1, 2), PLAIN, 111.0)
    index.sent(A, prompt(1, 2), PLAIN, 119.0)
    assert index.match(prompt(1, 2), PLAIN, 128.0)[A].predicted_tokens == 2 * BLOCK
    assert index.size().predictions == 1


def test_the_next_of_a_burst_sees_the_one_before_whether_or_not_it_is_settled(index):
    for worker, settles in ((A, False), (B, True)):
        index.sent(worker, prompt(1, 2), PLAIN, 0.0)
        if settles:
            index.settle()
        assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[worker] == Held(0, 2 * BLOCK, 2 * BLOCK, 2 * BLOCK)


def test_a_prompt_sent_to_a_worker_that_is_dropped_at_once_leaves_nothing(index):
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    index.drop(A)
    index.settle()
    assert index.size() == Size(0, 0, 0, 0, 0)


def test_a_prediction_that_came_true_ends_so_that_an_eviction_is_believed(index):
    index.sent(A, prompt(1, 2, 3), PLAIN, 0.0)
    index.apply(A, [stored(1, 2)])
    assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[A] == Held(2 * BLOCK, 3 * BLOCK, 3 * BLOCK, 3 * BLOCK)
    index.apply(A, [stored(3, 4, parent=2), BlockRemoved([4, 3])])
    assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[A] == Held(2 * BLOCK, 2 * BLOCK, 3 * BLOCK, 2 * BLOCK)


def test_a_prediction_that_came_true_leaves_those_of_its_siblings(index):
    for last in (3, 4):
        index.sent(A, prompt(1, 2, last), PLAIN, 0.0)
    index.sent(A, prompt(1), PLAIN, 0.0)
    index.apply(A, [stored(1, 2, 4)])
    assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[A] == Held(2 * BLOCK, 3 * BLOCK, 3 * BLOCK, 3 * BLOCK)
    index.apply(A, [AllBlocksCleared()])
    assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[A] == Held(0, 0, 3 * BLOCK, 0)


def test_nothing_is_predicted_that_is_held_already(index):
    index.apply(A, [stored(1, 2)])
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    assert index.size().predictions == 0


def test_a_prompt_sent_again_is_predicted_anew_and_holds_up_no_other(index):
    for block, at in ((1, 0.0), (2, 5.0), (1, 9.0)):
        index.sent(A, prompt(block), PLAIN, at)
    assert index.match(prompt(2), PLAIN, 15.0)[A].predicted_tokens == 0
    assert index.match(prompt(1), PLAIN, 15.0)[A].predicted_tokens == BLOCK
    assert index.match(prompt(1), PLAIN, 19.0)[A].predicted_tokens == 0


@pytest.mark.parametrize("settles", [False, True])
def test_what_was_sent_and_taken_back_is_predicted_no_longer(index, settles):
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    if settles:
        index.settle()
    index.unsent(A, prompt(1, 2), PLAIN)
    assert index.match(prompt(1, 2), PLAIN, 0.0) == {A: Held(0, 0, 2 * BLOCK, 0)}
    assert index.size().predictions == 0


def test_what_one_request_takes_back_is_predicted_while_another_was_sent_it(index):
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    index.sent(A, prompt(1, 2), PLAIN, 1.0)
    index.unsent(A, prompt(1, 2), PLAIN)
    assert index.match(prompt(1, 2), PLAIN, 1.0)[A].predicted_tokens == 2 * BLOCK
    index.unsent(A, prompt(1, 2), PLAIN)
    assert index.match(prompt(1, 2), PLAIN, 1.0)[A].predicted_tokens == 0


def test_taking_back_one_prompt_leaves_those_that_share_its_blocks_and_other_namespaces(index):
    salted = Namespace(None, "salt")
    for path in ((1, 2), (1, 2, 3), (1, 4), (5, 2)):
        index.sent(A, prompt(*path), PLAIN, 0.0)
    index.sent(A, prompt(1, 2), salted, 0.0)
    index.sent(B, prompt(1, 2), PLAIN, 0.0)
    index.unsent(A, prompt(1, 2, 3), PLAIN)
    assert index.match(prompt(1, 2, 3), PLAIN, 0.0)[A].predicted_tokens == 2 * BLOCK
    index.unsent(A, prompt(1, 2), PLAIN)
    found = index.match(prompt(1, 2), PLAIN, 0.0)
    assert (found[A].predicted_tokens, found[B].predicted_tokens) == (BLOCK, 2 * BLOCK)
    assert index.match(prompt(1, 2), salted, 0.0)[A].predicted_tokens == 2 * BLOCK
    index.unsent(A, prompt(5, 2), salted)
    assert index.match(prompt(5, 2), PLAIN, 0.0)[A].predicted_tokens == 2 * BLOCK


def test_taking_back_what_a_worker_was_never_sent_makes_nothing(index):
    index.unsent(A, prompt(1, 2), PLAIN)
    assert index.size() == Size(0, 0, 0, 0, 0)


def test_predictions_end_even_if_nobody_asks(index):
    for second in range(100):
        index.sent(A, prompt(second, 1), PLAIN, float(second))
    assert index.size().predictions == 10


def test_a_dropped_worker_takes_all_its_predictions_along(index):
    for block in (1, 2, 3):
        index.sent(A, prompt(block), PLAIN, 0.0)
    index.apply(A, [stored(2)])
    assert index.size().predictions == 2
    index.drop(A)
    assert index.size() == Size(0, 0, 0, 0, 0)


def test_a_prompt_of_less_than_a_block_predicts_nothing(index):
    index.sent(A, tokens(1)[:-4], PLAIN, 0.0)
    assert index.size() == Size(0, 0, 0, 0, 0)


def test_the_least_recently_sent_prompt_leaves_the_history_first(index):
    index.set_history(A, 4 * BLOCK)
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    index.sent(A, prompt(3, 4), PLAIN, 0.0)
    index.sent(A, prompt(1, 5), PLAIN, 0.0)
    later = 50.0
    assert index.match(prompt(1, 2), PLAIN, later) == {A: Held(0, 0, BLOCK, 0)}
    assert index.match(prompt(3, 4), PLAIN, later) == {A: Held(0, 0, 2 * BLOCK, 0)}
    index.set_history(A, 2 * BLOCK)
    assert index.match(prompt(3, 4), PLAIN, later) == {}
    assert index.match(prompt(1, 5), PLAIN, later) == {A: Held(0, 0, 2 * BLOCK, 0)}
    index.set_history(A, 0)
    index.sent(A, prompt(1, 5), PLAIN, later)
    assert index.match(prompt(1, 5), PLAIN, later)[A].history_tokens == 0


def test_without_a_bound_there_is_no_history():
    index = CacheMap(BLOCK, 10.0, None)
    index.sent(A, prompt(1, 2), PLAIN, 0.0)
    assert index.match(prompt(1, 2), PLAIN, 0.0) == {A: Held(0, 2 * BLOCK, 0, 2 * BLOCK)}


@pytest.mark.parametrize("piece", [1, 100, 3000])
def test_a_prompt_of_any_length_is_followed_to_its_end(index, piece):
    blocks = range(1, 3001)
    for first in range(0, 3000, piece):
        part = blocks[first : first + piece]
        index.apply(A, [stored(*part, parent=first or None)])
    index.sent(B, prompt(*blocks), PLAIN, 0.0)
    assert index.match(prompt(*blocks), PLAIN, 0.0) == {
        A: Held(3000 * BLOCK, 3000 * BLOCK, 3000 * BLOCK, 3000 * BLOCK),
        B: Held(0, 3000 * BLOCK, 3000 * BLOCK, 3000 * BLOCK),
    }
    assert 3000 // 512 <= index.size().runs <= 3000 // 512 + 2
    index.apply(A, [BlockRemoved([2000])])
    assert cached(index, prompt(*blocks)) == {A: 1999}
    assert index.apply(A, [BlockRemoved([block]) for block in reversed(blocks)]) == Applied(removed=2999, unknown=1)


def test_any_number_of_workers_may_hold_a_prompt_each_to_its_own_length(index):
    workers = [WorkerId(f"pod-{number}", 0) for number in range(200)]
    for number, worker in enumerate(workers):
        index.apply(worker, [stored(*range(1, number + 2))])
    found = cached(index, prompt(*range(1, 201)))
    assert found == {worker: number + 1 for number, worker in enumerate(workers)}
    for worker in workers[::2]:
        index.drop(worker)
    found = cached(index, prompt(*range(1, 201)))
    assert found == {worker: number + 1 for number, worker in enumerate(workers) if number % 2}

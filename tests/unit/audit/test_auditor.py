"""Answers against a real map, with events and engines played by hand."""

import logging
from array import array
from dataclasses import dataclass, field

import pytest
from kvpool_api.wire import EventState
from kvpool_api.wire import MapTrust as Trust
from kvpool_router.audit.auditor import CONFIRMED_S, GRACE_S, WATCHED_AT_ONCE, Audit
from kvpool_router.audit.comparison import Outcome
from kvpool_router.audit.suspicion import FIRST_PAUSE_S
from kvpool_router.events.wire import BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.requests.usage import Usage
from kvpool_router.workers import WorkerId

A = WorkerId("a", 0)
PLAIN = Namespace()
BLOCK = 4
BLOCKS = 6


@dataclass
class Stand:
    state: EventState = EventState.EXACT
    synced: bool = True
    replaying: bool = False
    gaps: int = 0


@dataclass
class PlayedEvents:
    """An event plane that stands as it is told, and notes what it is asked."""

    cache: CacheMap
    stand: Stand = field(default_factory=Stand)
    begun_again: list[bool] = field(default_factory=list)

    def standing(self, worker: WorkerId) -> Stand:
        return self.stand

    def begin_again(self, worker: WorkerId, *, whole: bool) -> None:
        self.begun_again.append(whole)
        self.cache.drop(worker)


class World:
    def __init__(self) -> None:
        self.cache = CacheMap(BLOCK, 60.0, None)
        self.events = PlayedEvents(self.cache)
        self.audit = Audit(self.cache, self.events)
        self.now = 0.0

    def prompt(self, seed: int) -> bytes:
        return array("I", [*range(seed * 1000, seed * 1000 + BLOCKS * BLOCK), 7]).tobytes()

    def stored(self, seed: int, first: int = 0) -> BlockStored:
        hashes = [seed * 100 + number for number in range(1, BLOCKS + 1)]
        tokens = self.prompt(seed)[first * BLOCK * 4 : BLOCKS * BLOCK * 4]
        return BlockStored(hashes[first:], hashes[first - 1] if first else None, TokenIds(tokens), BLOCK)

    def place(self, seed: int):
        prompt = self.prompt(seed)
        held = self.cache.match(prompt, PLAIN, self.now).get(A)
        predicted = held.predicted_tokens if held else 0
        self.cache.sent(A, prompt, PLAIN, self.now)
        return self.audit.placed(A, prompt, PLAIN, predicted_tokens=predicted, now=self.now)

    def answer(self, case, found: int | None) -> None:
        """The engine reports `found` blocks, and time goes on until that is settled."""
        tokens = None if found is None else found * BLOCK
        self.audit.answered(case, Usage(BLOCKS * BLOCK + 1, 5, tokens), self.now)
        for passes in (GRACE_S, CONFIRMED_S):
            self.now += passes
            self.audit.settle(self.now)

    def serve(self, seed: int, found: int | None) -> None:
        self.answer(self.place(seed), found)

    def lie(self, count: int) -> None:
        """So many prompts that the map has and the engine has not."""
        for seed in range(count):
            self.cache.apply(A, [self.stored(seed)])
            self.serve(seed, 0)

    @property
    def account(self):
        return self.audit.account(A)

    @property
    def trust(self) -> Trust:
        return self.account.opinion.trust


@pytest.fixture
def world() -> World:
    return World()


def test_a_true_map_stays_trusted_and_is_told_to_be_equal(world):
    for seed in range(50):
        world.serve(seed, 0)
        world.cache.apply(A, [world.stored(seed)])
        world.serve(seed, BLOCKS)
    assert world.trust is Trust.TRUSTED
    assert world.account.outcomes == {Outcome.EQUAL: 100}
    assert (world.account.over_blocks, world.account.under_blocks) == (0, 0)


def test_a_worker_whose_credit_is_false_is_found_loses_it_and_is_read_anew(world):
    world.lie(8)
    assert world.trust is Trust.DISTRUSTED
    assert world.events.begun_again == [True]
    assert "7 answers its engine did not find" in world.account.opinion.reason
    world.cache.apply(A, [world.stored(99)])
    assert A not in world.cache.match(world.prompt(99), PLAIN, world.now)


def test_a_map_that_knows_nothing_of_what_engines_find_is_wrong_too(world):
    for seed in range(11):
        world.serve(seed, BLOCKS)
    assert world.trust is Trust.DISTRUSTED
    assert world.account.outcomes == {Outcome.MISSED: 11}
    assert "knew nothing of" in world.account.opinion.reason


def test_what_is_not_known_is_no_fault_of_a_map_that_misses_events(world):
    world.events.stand = Stand(EventState.DEGRADED)
    for seed in range(40):
        world.serve(seed, BLOCKS)
    assert world.trust is Trust.TRUSTED


def test_nothing_is_held_against_a_map_while_a_gap_is_closed(world):
    world.events.stand = Stand(replaying=True)
    world.lie(40)
    assert world.trust is Trust.TRUSTED


def test_what_was_placed_before_a_gap_showed_is_no_evidence(world):
    for seed in range(40):
        world.cache.apply(A, [world.stored(seed)])
        case = world.place(seed)
        world.events.stand = Stand(gaps=seed + 1)
        world.answer(case, 0)
    assert world.trust is Trust.TRUSTED


def test_answers_on_a_connection_that_then_turns_out_to_be_dead_are_no_evidence(world):
    for seed in range(40):
        world.cache.apply(A, [world.stored(seed)])
        case = world.place(seed)
        world.audit.answered(case, Usage(BLOCKS * BLOCK + 1, 5, 0), world.now)
        world.now += GRACE_S / 4
        world.audit.settle(world.now)
    world.now += GRACE_S
    world.cache.suspend(A)
    world.cache.resume(A)
    world.now += CONFIRMED_S
    world.audit.settle(world.now)
    assert world.trust is Trust.TRUSTED
    assert world.account.outcomes == {Outcome.UNKNOWN: 40}


def test_a_hybrid_model_may_find_less_than_the_map_has(world):
    for group in (0, 1):
        other = BlockStored([1], None, TokenIds(world.prompt(500)[: BLOCK * 4]), BLOCK, group_idx=group)
        world.cache.apply(A, [other])
    world.lie(40)
    assert world.trust is Trust.TRUSTED


def test_blocks_evicted_while_a_request_queues_are_no_lie_even_if_it_stores_them_again(world):
    for seed in range(40):
        world.cache.apply(A, [world.stored(seed)])
        case = world.place(seed)
        world.cache.apply(A, [*(BlockRemoved([seed * 100 + number]) for number in range(BLOCKS, 2, -1))])
        world.cache.apply(A, [world.stored(seed, first=2)])
        world.answer(case, 2)
    assert world.trust is Trust.TRUSTED
    assert world.account.outcomes == {Outcome.EVICTED: 40}


def test_an_event_that_comes_a_moment_after_the_first_token_still_counts(world):
    world.cache.apply(A, [world.stored(1)])
    case = world.place(1)
    world.audit.first_token(case, world.now)
    world.now += GRACE_S / 2
    world.audit.settle(world.now)
    world.cache.apply(A, [BlockRemoved([1 * 100 + BLOCKS])])
    world.answer(case, BLOCKS - 1)
    assert world.account.outcomes == {Outcome.EVICTED: 1}


def test_what_happens_long_after_the_first_token_explains_nothing(world):
    world.cache.apply(A, [world.stored(1)])
    case = world.place(1)
    world.audit.first_token(case, world.now)
    world.now += 2 * GRACE_S
    world.audit.settle(world.now)
    world.cache.apply(A, [BlockRemoved([1 * 100 + number]) for number in range(1, BLOCKS + 1)])
    world.answer(case, 0)
    assert world.account.outcomes == {Outcome.FALSE: 1}


def test_a_worker_that_is_read_anew_and_answers_right_is_trusted_again(world):
    world.lie(7)
    world.now += FIRST_PAUSE_S
    world.audit.settle(world.now)
    assert world.trust is Trust.ON_TRIAL
    for seed in range(200, 220):
        world.cache.apply(A, [world.stored(seed)])
        world.serve(seed, BLOCKS)
    assert world.trust is Trust.TRUSTED
    assert world.account.opinion.reason == ""
    assert world.cache.match(world.prompt(200), PLAIN, world.now)[A].cached_tokens == BLOCKS * BLOCK


def test_the_pause_lasts_until_the_history_has_been_read(world):
    world.lie(7)
    world.events.stand = Stand(EventState.DEGRADED, synced=False)
    world.now += 10 * FIRST_PAUSE_S
    world.audit.settle(world.now)
    assert world.trust is Trust.DISTRUSTED
    world.events.stand = Stand()
    world.audit.settle(world.now)
    assert world.trust is Trust.ON_TRIAL


def test_a_history_that_made_the_map_wrong_again_is_not_read_a_third_time(world):
    world.lie(7)
    world.now += FIRST_PAUSE_S
    world.audit.settle(world.now)
    world.lie(7)
    assert world.events.begun_again == [True, False]


def test_a_new_process_begins_without_suspicion(world):
    world.lie(7)
    world.audit.forget(A)
    assert world.trust is Trust.TRUSTED
    world.cache.apply(A, [world.stored(1)])
    assert world.cache.match(world.prompt(1), PLAIN, world.now)[A].cached_tokens


def test_an_answer_that_was_asked_of_a_former_process_says_nothing_of_the_new_one(world):
    world.cache.apply(A, [world.stored(1)])
    case = world.place(1)
    world.audit.forget(A)
    world.answer(case, 0)
    assert not world.account.outcomes


def test_an_engine_that_reports_nothing_is_unknown_and_that_is_said_once(world, caplog):
    with caplog.at_level(logging.WARNING):
        for seed in range(30):
            world.cache.apply(A, [world.stored(seed)])
            world.serve(seed, None)
    assert world.trust is Trust.TRUSTED
    assert world.account.outcomes == {Outcome.UNKNOWN: 30}
    assert world.account.details is False
    assert [record.message for record in caplog.records if "--enable-prompt-tokens-details" in record.message] == [
        caplog.records[0].message
    ]


def test_silence_of_an_engine_that_has_told_a_number_before_is_a_zero(world):
    world.cache.apply(A, [world.stored(1)])
    world.serve(1, BLOCKS)
    world.serve(2, None)
    assert world.account.outcomes == {Outcome.EQUAL: 2}


def test_answers_to_another_prompt_than_was_counted_prove_nothing(world):
    world.cache.apply(A, [world.stored(1)])
    case = world.place(1)
    world.audit.answered(case, Usage(3, 1, 0), world.now)
    world.audit.settle(world.now + CONFIRMED_S)
    assert world.account.outcomes == {Outcome.UNKNOWN: 1}


def test_what_is_watched_at_once_is_bounded_and_ends_with_answers_however_they_end(world):
    cases = [world.place(seed) for seed in range(WATCHED_AT_ONCE + 4)]
    assert [case is None for case in cases] == [False] * WATCHED_AT_ONCE + [True] * 4
    for case in cases[: WATCHED_AT_ONCE // 2]:
        world.audit.answered(case, None, world.now)
    for case in cases[WATCHED_AT_ONCE // 2 : WATCHED_AT_ONCE]:
        world.answer(case, 0)
    assert world.account.watched == 0
    assert world.place(50) is not None

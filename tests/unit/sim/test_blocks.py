"""The paged cache: what is held, what is found, what is evicted, against a plain oracle."""

from array import array

from hypothesis import given
from hypothesis import strategies as st
from kvpool_sim.core.blocks import BlockPool, chained
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.events import AllBlocksCleared, BlockRemoved, BlockStored
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import DEFAULT_ROW

SIZE = 4
LIMITS = Limits(max_num_batched_tokens=16, max_num_seqs=4, max_model_len=64)


def prompt(family: int, length: int) -> array:
    return array("I", [family, *range(1, length)])


def request(family: int, length: int, output: int = 3, salt: str | None = None) -> EngineRequest:
    return EngineRequest(prompt(family, length), length, output, salt=salt, seed=family)


def engine(blocks: int = 40, limits: Limits = LIMITS) -> EngineCore:
    return EngineCore(DEFAULT_ROW, BlockPool(blocks, SIZE), limits, lambda request: 100 + request.output_tokens)


def run(core: EngineCore, *requests: EngineRequest) -> None:
    for each in requests:
        core.submit(each)
    while (step := core.schedule()) is not None:
        core.complete(step)


def held_by(events) -> set[int]:
    """What an observer of the events believes to be cached, copies counted."""
    copies: dict[int, int] = {}
    for event in events:
        match event:
            case BlockStored():
                for value in event.hashes:
                    copies[value] = copies.get(value, 0) + 1
            case BlockRemoved():
                for value in event.hashes:
                    copies[value] -= 1
            case AllBlocksCleared():
                copies.clear()
    return {value for value, count in copies.items() if count}


requests = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 12), st.sampled_from([None, "salt"])), max_size=12
)


@given(requests, st.integers(16, 40))
def test_every_request_ends_with_its_tokens_and_every_block_comes_back(asked, blocks):
    core = engine(blocks)
    made = [request(*each) for each in asked]
    run(core, *made)
    assert [each.output_tokens for each in made] == [output for _, _, output, _ in asked]
    assert core.pool.free == core.pool.usable == blocks - 1
    assert core.pool.usage() == 0.0
    assert (core.running, core.waiting) == (0, 0)


@given(requests, st.integers(16, 40))
def test_whoever_follows_the_events_knows_the_cache(asked, blocks):
    core = engine(blocks)
    run(core, *(request(*each) for each in asked))
    believed = held_by(core.take_events())
    assert len(believed) == core.pool.cached
    for family, length, _, salt in asked:
        hashes = chained(prompt(family, length), SIZE, [], salt)
        found = len(core.pool.lookup(hashes))
        assert set(hashes[:found]) <= believed
        assert found == len(hashes) or hashes[found] not in believed


@given(requests)
def test_hits_are_whole_blocks_and_never_the_whole_prompt(asked):
    core = engine(200)
    for family, length, output, salt in asked:
        each = request(family, length, output, salt)
        run(core, each)
        assert each.cached_tokens is not None
        assert each.cached_tokens % SIZE == 0
        assert each.cached_tokens < length


def test_a_repeated_prompt_is_found_up_to_its_last_whole_block():
    core = engine()
    run(core, request(1, 13))
    again = request(1, 13)
    run(core, again)
    assert again.cached_tokens == 12
    exact = request(1, 12)
    run(core, exact)
    assert exact.cached_tokens == 8


def test_a_salt_keeps_prompts_apart_and_stands_in_the_first_block_only():
    core = engine()
    run(core, request(1, 13, salt="a"))
    other = request(1, 13, salt="b")
    run(core, other)
    assert other.cached_tokens == 0
    first = next(event for event in core.take_events() if isinstance(event, BlockStored))
    assert first.extra_keys == (("a",), None, None)


def test_what_was_generated_is_cached_too():
    core = engine()
    first = request(1, 8, 9)
    run(core, first)
    follow = EngineRequest(array("I", [*first.tokens, 7, 7, 7]), 20, 1)
    run(core, follow)
    assert follow.cached_tokens == 16


def test_the_least_recently_freed_end_goes_first():
    core = engine(9)
    run(core, request(1, 12, 1), request(2, 12, 1))
    core.take_events()
    run(core, request(3, 12, 1))
    removed = [value for event in core.take_events() if isinstance(event, BlockRemoved) for value in event.hashes]
    assert removed == [chained(prompt(1, 12), SIZE, [], None)[2]]


def test_long_prompts_are_computed_in_chunks_beside_decodes():
    core = engine()
    short, long = request(1, 4, 8), request(2, 40, 1)
    core.submit(short)
    first = core.schedule()
    core.complete(first)
    core.submit(long)
    counts = []
    while (step := core.schedule()) is not None:
        counts.append([count for _, count in step.computed])
        assert sum(counts[-1]) <= LIMITS.max_num_batched_tokens
        core.complete(step)
    assert counts[0] == [1, 15]


def test_short_of_blocks_the_youngest_starts_over_and_all_still_end():
    core = engine(11, Limits(16, 4, 36))
    made = [request(1, 12, 20), request(2, 12, 20)]
    run(core, *made)
    assert core.totals.preemptions > 0
    assert [each.output_tokens for each in made] == [20, 20]
    assert core.totals.prompt_tokens == 24


def test_an_aborted_request_gives_back_its_blocks_whether_it_ran_or_waited():
    core = engine(limits=Limits(16, 1, 64))
    running, waiting = request(1, 8, 50), request(2, 8, 50)
    core.submit(running)
    core.submit(waiting)
    step = core.schedule()
    core.abort(running)
    core.abort(waiting)
    core.abort(waiting)
    assert core.complete(step) == []
    assert core.schedule() is None
    assert core.pool.free == core.pool.usable
    assert core.totals.finished["abort"] == 2


def test_a_model_that_stops_by_itself_says_so():
    core = engine()
    stops = EngineRequest(prompt(1, 4), 4, 10, stop_after=2)
    run(core, stops)
    assert (stops.finished, stops.output_tokens) == ("stop", 2)
    longest = EngineRequest(prompt(2, 60), 60, 100)
    run(core, longest)
    assert (longest.finished, len(longest.tokens)) == ("length", 64)


def test_the_cache_is_reset_only_when_nobody_holds_a_block():
    core = engine()
    core.submit(request(1, 8))
    step = core.schedule()
    assert not core.pool.reset()
    core.complete(step)
    while (step := core.schedule()) is not None:
        core.complete(step)
    assert core.pool.reset()
    assert core.pool.cached == 0
    assert held_by(core.take_events()) == set()

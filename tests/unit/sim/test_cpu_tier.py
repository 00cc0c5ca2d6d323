"""The tier in main memory: what it holds, when it is told, what is loaded, and what that costs."""

from array import array

from hypothesis import given
from hypothesis import strategies as st
from kvpool_sim.core.blocks import BlockPool, chained
from kvpool_sim.core.cpu_tier import CpuTier
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.events import BlockDropped, BlockOffloaded, BlockStored
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import DEFAULT_ROW, ROWS

SIZE = 4
LIMITS = Limits(max_num_batched_tokens=16, max_num_seqs=4, max_model_len=64)


def prompt(family: int, length: int) -> array:
    return array("I", [family, *range(1, length)])


def request(family: int, length: int, output: int = 1) -> EngineRequest:
    return EngineRequest(prompt(family, length), length, output, seed=family)


def hashes(family: int, length: int) -> list[int]:
    return chained(prompt(family, length), SIZE, [], None)


def engine(blocks: int, offloaded: int, limits: Limits = LIMITS) -> tuple[EngineCore, CpuTier]:
    tier = CpuTier(offloaded)
    return EngineCore(DEFAULT_ROW, BlockPool(blocks, SIZE), limits, lambda each: 100 + each.output_tokens, tier), tier


def run(core: EngineCore, *requests: EngineRequest) -> float:
    """Until all have ended; the seconds that it took."""
    for each in requests:
        core.submit(each)
    took_s = 0.0
    while (step := core.schedule()) is not None:
        took_s += step.duration_s
        core.complete(step)
    return took_s


def below(events) -> list[int]:
    """What an observer of the events believes to lie in main memory."""
    held: dict[int, None] = {}
    for event in events:
        match event:
            case BlockOffloaded():
                assert event.value not in held
                held[event.value] = None
            case BlockDropped():
                for value in event.hashes:
                    del held[value]
    return list(held)


asked = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(1, 12)), max_size=14)


@given(asked, st.integers(14, 30), st.integers(0, 40))
def test_every_request_ends_and_no_block_is_lost_or_kept_busy(made, blocks, offloaded):
    core, tier = engine(blocks, offloaded)
    requests = [request(*each) for each in made]
    run(core, *requests)
    assert [each.output_tokens for each in requests] == [output for _, _, output in made]
    assert core.pool.free == core.pool.usable
    assert (core.running, core.waiting) == (0, 0)
    everything = [value for family, length, _ in made for value in hashes(family, length)]
    assert tier.store(everything[:offloaded])  # nothing that lies there is still held by a load


@given(asked, st.integers(14, 30), st.integers(0, 40))
def test_whoever_follows_the_events_knows_what_lies_in_main_memory(made, blocks, offloaded):
    core, tier = engine(blocks, offloaded)
    run(core, *(request(*each) for each in made))
    events = core.take_events()
    believed = below(events)
    assert len(believed) == tier.held <= offloaded
    for family, length, _ in made:
        found = tier.lookup(hashes(family, length))
        assert set(hashes(family, length)[:found]) <= set(believed)
    told_on_the_gpu = set()
    for event in events:
        if isinstance(event, BlockStored):
            told_on_the_gpu.update(event.hashes)
        elif isinstance(event, BlockOffloaded):
            assert event.value in told_on_the_gpu  # so its hash says where it belongs


@given(asked, st.integers(14, 30))
def test_with_room_below_nothing_that_a_prompt_had_is_ever_computed_again(made, blocks):
    core, _ = engine(blocks, 1000)
    seen: set[int] = set()
    for each in made:
        mine = request(*each)
        run(core, mine)
        whole = hashes(each[0], each[1])
        reusable = len([value for value in whole if value in seen]) * SIZE
        assert mine.cached_tokens is not None
        assert mine.cached_tokens >= min(reusable, each[1] - SIZE)
        assert mine.cached_tokens <= each[1]
        seen.update(whole)


def test_what_the_gpu_has_lost_is_loaded_and_counts_as_cached():
    core, _ = engine(12, 100)
    run(core, request(1, 21))
    run(core, request(2, 41))
    again = request(1, 21)
    run(core, again)
    assert again.cached_tokens == 20
    assert core.totals.loaded_tokens > 0
    assert core.totals.cached_tokens == 20


def test_a_lookup_below_begins_where_the_gpu_ends():
    core, tier = engine(40, 100)
    run(core, request(1, 21))
    assert tier.held == 5
    longer = request(1, 37)
    run(core, longer)
    assert longer.cached_tokens == 20
    assert core.totals.loaded_tokens == 0


def test_loading_takes_the_links_time_and_less_than_computing():
    limits = Limits(8192, 4, 8192)
    cold, loaded = request(1, 4001), request(1, 4001)
    core, _ = engine(1100, 3000, limits)
    computed_s = run(core, cold)
    run(core, request(2, 4201))
    loaded_s = run(core, loaded)
    assert loaded.cached_tokens == 4000
    assert core.totals.load_s == DEFAULT_ROW.load_token_s * core.totals.loaded_tokens
    assert core.totals.load_s < loaded_s < computed_s


def test_of_a_prompt_that_lies_below_whole_only_the_last_token_is_computed():
    core, _ = engine(12, 100)
    run(core, request(1, 20))
    run(core, request(2, 41))
    again = request(1, 20)
    core.submit(again)
    counts = []
    while (step := core.schedule()) is not None:
        counts += [count for _, count in step.computed]
        core.complete(step)
    assert again.cached_tokens == 20
    assert counts == [1]


def test_while_one_loads_others_are_served():
    limits = Limits(8192, 4, 8192)
    core, _ = engine(1100, 3000, limits)
    run(core, request(1, 4001))
    run(core, request(2, 4201))
    loading, other = request(1, 4001), request(3, 5)
    core.submit(loading)
    core.submit(other)
    step = core.schedule()
    assert [each for each, _ in step.computed] == [other]
    assert (core.waiting, core.running) == (1, 1)
    core.complete(step)
    run(core)
    assert loading.cached_tokens == 4000


def test_who_wants_what_another_loads_waits_and_finds_it_on_the_gpu():
    limits = Limits(8192, 4, 8192)
    core, _ = engine(1100, 3000, limits)
    run(core, request(1, 3001))
    run(core, request(2, 4301))
    first, second = request(1, 3001), request(1, 3001)
    run(core, first, second)
    assert (first.cached_tokens, second.cached_tokens) == (3000, 3000)
    assert 1500 < core.totals.loaded_tokens <= 3000


def test_answers_are_not_offloaded():
    core, tier = engine(40, 100)
    run(core, request(1, 9, output=20))
    assert tier.held == 2


def test_the_ends_of_prompts_go_first_and_no_room_means_no_copy():
    core, tier = engine(40, 6)
    run(core, request(1, 13))
    run(core, request(2, 13))
    run(core, request(3, 9))
    assert tier.lookup(hashes(1, 13)) == 1
    assert tier.lookup(hashes(2, 13)) == 3
    assert not CpuTier(2).store(hashes(1, 13))


def test_an_aborted_load_keeps_its_blocks_until_it_ends():
    core, _ = engine(12, 100)
    run(core, request(1, 21))
    run(core, request(2, 41))
    loading = request(1, 21)
    core.submit(loading)
    step = core.schedule()
    core.abort(loading)
    assert core.waiting == 1
    assert core.pool.free < core.pool.usable
    core.complete(step)
    run(core)
    assert core.pool.free == core.pool.usable
    assert core.totals.finished["abort"] == 1


def test_loading_is_quicker_than_computing_for_any_model_but_a_tiny_one():
    for row in ROWS.values():
        assert row.load_token_s > 0.0
        assert (row.load_token_s < row.token_us * 1e-6) == ("0.6B" not in row.model)

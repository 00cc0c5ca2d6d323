"""What holds after every single step, with clients that leave; and the pool beside an oracle made of lists."""

from array import array

from hypothesis import given
from hypothesis import strategies as st
from kvpool_sim.core.blocks import BlockPool, chained
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.events import BlockRemoved, BlockStored
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import DEFAULT_ROW

SIZE = 4
LIMITS = Limits(max_num_batched_tokens=16, max_num_seqs=4, max_model_len=60)


def prompt(family: int, length: int) -> array:
    return array("I", [family, *range(1, length)])


def engine(blocks: int, limits: Limits = LIMITS) -> EngineCore:
    return EngineCore(DEFAULT_ROW, BlockPool(blocks, SIZE), limits, lambda request: 100 + request.output_tokens)


def held(requests) -> set[int]:
    return {block for request in requests for block in request.blocks}


asked = st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(1, 16), st.sampled_from([None, "salt"]))
moves = st.lists(st.one_of(asked, st.integers(0, 9), st.none()), max_size=40)
"""A request that comes, the number of one that is given up, or a step."""


@given(moves, st.integers(16, 30))
def test_after_every_step_all_blocks_are_either_free_or_held_and_no_limit_is_passed(script, blocks):
    core, made, believed = engine(blocks), [], {}
    for move in [*script, *[None] * 5]:
        if isinstance(move, tuple):
            family, length, output, salt = move
            made.append(EngineRequest(prompt(family, length), length, output, salt=salt))
            core.submit(made[-1])
        elif move is not None and made:
            core.abort(made[move % len(made)])
        elif (step := core.schedule()) is not None:
            assert sum(count for _, count in step.computed) <= LIMITS.max_num_batched_tokens
            assert core.running <= LIMITS.max_num_seqs
            assert all(count > 0 for _, count in step.computed)
            core.complete(step)
        assert core.pool.free + len(held(made)) == core.pool.usable
        assert all(not each.blocks for each in made if each.finished)
        for event in core.take_events():
            for value in event.hashes:
                believed[value] = believed.get(value, 0) + (1 if isinstance(event, BlockStored) else -1)
        assert {value for value, copies in believed.items() if copies} == set(core.pool._cached)
    unfinished = sum(each.finished is None for each in made)
    assert core.running + core.waiting == unfinished


@given(moves, st.integers(16, 30))
def test_who_is_not_given_up_gets_all_its_tokens_and_nobody_waits_for_ever(script, blocks):
    core, made = engine(blocks), []
    for family, length, output, salt in (move for move in script if isinstance(move, tuple)):
        made.append(EngineRequest(prompt(family, length), length, output, salt=salt))
        core.submit(made[-1])
        step = core.schedule()
        assert step is not None
        core.complete(step)
    while (step := core.schedule()) is not None:
        core.complete(step)
    assert [each.output_tokens for each in made] == [each.max_tokens for each in made]
    assert core.pool.free == core.pool.usable


class ListedPool:
    """The same rules in the plainest way: a list of free blocks, a list of pairs of block and content."""

    def __init__(self, blocks: int) -> None:
        self.free = list(range(1, blocks))
        self.content: list[tuple[int, int]] = []

    def take(self, count: int) -> tuple[list[int], list[int]]:
        taken, self.free = self.free[:count], self.free[count:]
        evicted = [value for block in taken for of, value in self.content if of == block]
        self.content = [pair for pair in self.content if pair[0] not in taken]
        return taken, evicted

    def release(self, blocks: list[int]) -> None:
        known = {block for block, _ in self.content}
        back = blocks[::-1]
        empty = [block for block in back if block not in known]
        self.free = empty + self.free + [block for block in back if block in known]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.integers(0, 6)), max_size=25), st.data())
def test_blocks_are_handed_out_and_evicted_in_the_order_of_the_oracle(script, data):
    pool, oracle, out = BlockPool(14, SIZE), ListedPool(14), []
    for family, count, filled in script:
        if count > pool.free:
            assert pool.take((), count) is None
            if out:
                blocks = out.pop(data.draw(st.integers(0, len(out) - 1)))
                pool.release(blocks)
                oracle.release(blocks)
            continue
        blocks = pool.take((), count)
        expected, evicted = oracle.take(count)
        assert blocks == expected
        assert [value for event in pool.take_events() for value in event.hashes] == evicted
        filled = min(filled, count)
        if filled:
            tokens = prompt(family, filled * SIZE)
            hashes = chained(tokens, SIZE, [], None)
            pool.store(blocks[:filled], hashes, None, tokens, None)
            oracle.content += zip(blocks, hashes, strict=False)
            pool.take_events()
        out.append(blocks)


def test_a_prompt_is_admitted_only_where_all_of_it_would_fit():
    core = engine(12, Limits(8, 4, 44))
    first = EngineRequest(prompt(1, 20), 20, 8)
    second = EngineRequest(prompt(2, 30), 30, 1)
    core.submit(first)
    core.submit(second)
    step = core.schedule()
    assert step is not None
    assert [request for request, _ in step.computed] == [first]
    assert (core.running, core.waiting) == (1, 1)
    while step is not None:
        core.complete(step)
        step = core.schedule()
    assert core.totals.preemptions == 0
    assert second.finished == "length"


def test_a_step_that_had_to_preempt_admits_nobody():
    core = engine(7, Limits(64, 4, 24))
    old, young = EngineRequest(prompt(1, 12), 12, 12), EngineRequest(prompt(2, 12), 12, 4)
    core.submit(old)
    core.submit(young)
    small = EngineRequest(prompt(3, 2), 2, 1)
    core.complete(core.schedule())
    core.submit(small)
    step = core.schedule()
    assert core.totals.preemptions == 1
    assert [request for request, _ in step.computed] == [old]
    core.complete(step)
    assert young.blocks == []
    while (step := core.schedule()) is not None:
        core.complete(step)
    assert [each.output_tokens for each in (old, young, small)] == [12, 4, 1]


def test_a_block_goes_when_its_last_copy_goes():
    """The second of two equal prompts reuses the first block and computes the last again: a copy, announced as vLLM
    does."""
    core = engine(9, Limits(64, 4, 32))
    twins = [EngineRequest(prompt(1, 8), 8, 1) for _ in range(2)]
    for each in twins:
        core.submit(each)
    core.complete(core.schedule())
    stored = [event for event in core.take_events() if isinstance(event, BlockStored)]
    copies = sum(len(event.hashes) for event in stored)
    assert copies == 3
    other = EngineRequest(prompt(2, 32), 32, 1)
    core.submit(other)
    core.complete(core.schedule())
    removed = [event for event in core.take_events() if isinstance(event, BlockRemoved)]
    assert len(removed) == copies
    assert core.pool.lookup(stored[0].hashes) == []

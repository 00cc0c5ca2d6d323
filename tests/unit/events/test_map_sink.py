import asyncio
import time

import msgspec
import pytest
from event_publisher import BLOCK_TOKENS, removed, stored, tokens_of
from event_world import Heard
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.follower import Follower, Rhythm
from kvpool_router.events.map_sink import SLICE_BLOCKS, MapSink, slices
from kvpool_router.events.pace import STRETCH_S, Pace
from kvpool_router.events.sequence import Frame
from kvpool_router.events.standing import Lack
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId
from simulated_stream import Happening, SimulatedEngine

WORKER = WorkerId("engine-0", 0)


def new_map() -> CacheMap:
    return CacheMap(BLOCK_TOKENS, 60.0, None)


def sink_on(cache_map: CacheMap) -> MapSink:
    return MapSink(WORKER, cache_map, Pace(time.monotonic), lambda: 5.0, Heard())


def payload(*events: dict[str, object]) -> bytes:
    return msgspec.msgpack.encode([1.0, list(events), 0])


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 50))
def test_slices_keep_every_event_in_order_and_are_short_unless_one_event_is_long(sizes, limit):
    events = [BlockRemoved(list(range(size))) if size else AllBlocksCleared() for size in sizes]
    pieces = list(slices(events, limit))
    assert [event for piece in pieces for event in piece] == events
    for piece in pieces:
        weight = sum(max(1, len(event.block_hashes)) if isinstance(event, BlockRemoved) else 1 for event in piece)
        assert weight <= limit or len(piece) == 1


async def test_a_detached_sink_touches_the_map_no_more():
    cache_map = new_map()
    sink = sink_on(cache_map)
    await sink.apply(Frame(0, payload(stored(1))), live=True)
    sink.detach()
    sink.drop()
    sink.suspend()
    sink.resume()
    await sink.apply(Frame(1, payload(stored(2))), live=True)
    assert cache_map.blocks(WORKER) == 1


async def test_a_dropped_worker_stays_suspended_until_it_is_resumed():
    cache_map = new_map()
    sink = sink_on(cache_map)
    sink.suspend()
    sink.drop()
    cache_map.apply(WORKER, decode(payload(stored(1))).events)
    assert not cache_map.match(b"".join(n.to_bytes(4, "little") for n in range(99)), Namespace(None, None), 0.0)


async def test_only_a_live_batch_with_a_time_tells_the_lag():
    sink = sink_on(new_map())
    await sink.apply(Frame(0, payload(stored(1))), live=False)
    assert sink.lag_ms is None
    await sink.apply(Frame(1, b"junk"), live=True)
    assert sink.lag_ms is None
    await sink.apply(Frame(2, payload(stored(2))), live=True)
    assert sink.lag_ms == 4000.0


async def test_a_batch_that_is_cut_off_half_way_is_applied_to_its_end_and_once():
    """The map counts copies of a block, and a number stands for the whole batch."""
    cache_map = new_map()
    follower = Follower(sink_on(cache_map), lambda: 0.0, Rhythm())
    engine = SimulatedEngine(iter([]), iter([]), 10)
    engine.published.append(Frame(0, payload(*(stored(block, blocks=SLICE_BLOCKS) for block in range(4)))))
    following = asyncio.ensure_future(follower.follow(engine))
    turns = (asyncio.sleep(0) for _ in range(99) if not cache_map.blocks(WORKER))
    for turn in turns:
        await turn
    assert cache_map.blocks(WORKER) < 4 * SLICE_BLOCKS
    following.cancel()
    await asyncio.wait([following])
    assert cache_map.blocks(WORKER) == 4 * SLICE_BLOCKS
    again = asyncio.ensure_future(follower.follow(engine))
    await asyncio.wait([again])
    assert again.exception() is not None
    assert follower.marks.applied == 0
    await sink_on(cache_map).apply(Frame(1, payload(*(removed(block) for block in range(4)))), live=True)
    assert cache_map.blocks(WORKER) == 4 * SLICE_BLOCKS - 4


async def test_a_batch_that_fails_half_way_costs_the_map_at_the_next_connection():
    cache_map = new_map()
    sink = sink_on(cache_map)
    engine = SimulatedEngine(iter([Happening.PUBLISH]), iter([]), 10)
    follower = Follower(sink, engine.clock, Rhythm())
    sink.apply = _fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await follower.follow(engine)
    cache_map.apply(WORKER, decode(payload(stored(1))).events)
    del sink.apply
    again = asyncio.ensure_future(follower.follow(SimulatedEngine(iter([]), iter([]), 10)))
    await asyncio.wait([again])
    assert cache_map.blocks(WORKER) == 0


async def _fails(frame: Frame, *, live: bool) -> None:
    raise RuntimeError


UNREADABLE = {
    Lack.STORED: {"type": "BlockStored", "block_hashes": [None]},
    Lack.UNKNOWN: {"type": "BlockPinned"},
    Lack.REMOVED: {"type": "BlockRemoved", "block_hashes": [None]},
    Lack.ILLEGIBLE: {"block_hashes": [1]},
}


@pytest.mark.parametrize(
    ("lack", "credit"), [(Lack.STORED, 2), (Lack.UNKNOWN, 2), (Lack.REMOVED, 0), (Lack.ILLEGIBLE, 0)]
)
async def test_only_what_may_have_been_a_removal_ends_the_credit_of_what_is_known(lack, credit):
    cache_map = new_map()
    sink = sink_on(cache_map)
    await sink.apply(Frame(0, payload(stored(1), UNREADABLE[lack], stored(2))), live=True)
    assert (cache_map.blocks(WORKER), sink.tally.lack, sink.tally.stored_blocks) == (credit, lack, 0)
    await sink.apply(Frame(1, payload(stored(3))), live=True)
    assert (cache_map.blocks(WORKER), sink.tally.stored_blocks) == (credit + 1, 1)


async def test_a_message_that_is_no_batch_may_have_been_a_removal():
    cache_map = new_map()
    sink = sink_on(cache_map)
    await sink.apply(Frame(0, payload(stored(1))), live=True)
    await sink.apply(Frame(1, b"junk"), live=True)
    assert (cache_map.blocks(WORKER), sink.tally.lack) == (0, Lack.ILLEGIBLE)


async def test_the_worst_lack_is_told_until_the_engine_empties_its_cache():
    sink = sink_on(new_map())
    await sink.apply(Frame(0, payload(UNREADABLE[Lack.REMOVED])), live=True)
    await sink.apply(Frame(1, payload(UNREADABLE[Lack.STORED])), live=True)
    assert sink.tally.lack is Lack.REMOVED
    await sink.apply(Frame(2, payload({"type": "AllBlocksCleared"})), live=True)
    assert (sink.tally.lack, sink.tally.cleared) == (Lack.NOTHING, True)
    await sink.apply(Frame(3, payload(UNREADABLE[Lack.STORED])), live=True)
    assert (sink.tally.lack, sink.tally.cleared) == (Lack.STORED, False)


async def test_blocks_from_before_lost_batches_count_again_once_the_engine_stores_after_them():
    cache_map = new_map()
    sink = sink_on(cache_map)
    await sink.apply(Frame(0, payload(stored(1, blocks=3), stored(2, blocks=3))), live=True)
    await sink.doubt()
    assert (cache_map.blocks(WORKER), sink.tally.lack) == (0, Lack.BATCHES)
    await sink.apply(Frame(9, payload(continued(1, 3))), live=True)
    assert cache_map.blocks(WORKER) == 4
    assert sink.tally.stored_blocks == 1, "what is confirmed has not turned over"
    assert credit(cache_map, tokens_of(1, blocks=3)) == 3 * BLOCK_TOKENS
    assert credit(cache_map, tokens_of(2, blocks=3)) == 0


async def test_what_nobody_confirmed_is_given_up_once_the_cache_has_turned_over():
    cache_map = new_map()
    sink = sink_on(cache_map)
    await sink.apply(Frame(0, payload(stored(1, blocks=3))), live=True)
    await sink.doubt()
    sink.turned_over(BLOCK_TOKENS)
    await sink.apply(Frame(8, payload(stored(5))), live=True)
    sink.turned_over(BLOCK_TOKENS)
    await sink.apply(Frame(9, payload(continued(1, 3))), live=True)
    assert credit(cache_map, tokens_of(1, blocks=3)) == 0


async def test_a_block_stored_after_an_unknown_one_shows_that_the_cache_has_not_turned_over():
    sink = sink_on(new_map())
    await sink.apply(Frame(5, payload(stored(1), stored(2))), live=True)
    assert sink.tally.stored_blocks == 2
    await sink.apply(Frame(6, payload(continued(7, 3))), live=True)
    assert sink.tally.stored_blocks == 0


async def test_lags_and_skips_are_told_as_they_are_even_where_the_engines_clock_is_ahead():
    heard = Heard()
    sink = MapSink(WORKER, new_map(), Pace(time.monotonic), lambda: 0.5, heard)
    await sink.apply(Frame(0, payload(stored(1), UNREADABLE[Lack.STORED])), live=True)
    await sink.apply(Frame(1, payload(stored(2))), live=False)
    sink.count_foreign()
    assert (heard.lags_s, heard.skips) == ([-0.5], ["stored", "message"])
    assert (sink.lag_ms, sink.skipped_events) == (0.0, 2)


def continued(block: int, blocks: int) -> dict[str, object]:
    """One more block after those of `stored(block, blocks=blocks)`."""
    after = {"block_hashes": [block * 1000 + 1 + blocks], "parent_block_hash": block * 1000 + blocks}
    return stored(block) | after | {"token_ids": [7] * BLOCK_TOKENS}


def credit(cache_map: CacheMap, tokens: bytes) -> int:
    held = cache_map.match(tokens, Namespace(None, None), 0.0).get(WORKER)
    return held.cached_tokens if held else 0


@pytest.mark.parametrize(("slice_s", "in_a_turn"), [(STRETCH_S, 1), (STRETCH_S / 2, 2), (STRETCH_S / 4, 4)])
async def test_slices_of_many_workers_share_stretches_in_order_of_arrival(slice_s, in_a_turn):
    now, turn = 0.0, 0
    ran: list[tuple[int, str]] = []
    pace = Pace(lambda: now)

    def one(name: str) -> None:
        nonlocal now
        now += slice_s
        ran.append((turn, name))

    async def work(name: str) -> None:
        for _ in range(4):
            await pace.run(lambda: one(name))

    workers = [asyncio.create_task(work(name)) for name in "abc"]
    while not all(worker.done() for worker in workers):
        turn += 1
        await asyncio.sleep(0)
    turns = [turn for turn, _ in ran]
    assert max(turns.count(each) for each in turns) <= in_a_turn
    assert [name for _, name in ran].count("c") == 4
    assert {name for _, name in ran[:6]} == {"a", "b", "c"}, "nobody waits until another has ended"


async def test_one_workers_short_slices_do_not_cost_a_turn_each():
    pace, turns = Pace(lambda: 0.0), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for _ in range(100):
        await pace.run(int)
    counting.cancel()
    await asyncio.wait([counting])
    assert turns < 5


def test_removed_blocks_are_those_that_were_stored():
    cache_map = new_map()
    cache_map.apply(WORKER, decode(payload(stored(1), removed(1))).events)
    assert cache_map.blocks(WORKER) == 0

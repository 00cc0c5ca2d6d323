import asyncio

import msgspec
from event_publisher import BLOCK_TOKENS, removed, stored
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.follower import Follower, Rhythm
from kvpool_router.events.map_sink import MapSink, slices
from kvpool_router.events.pace import Pace
from kvpool_router.events.sequence import Frame
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId
from simulated_stream import Happening, SimulatedEngine

WORKER = WorkerId("engine-0", 0)


def new_map() -> CacheMap:
    return CacheMap(BLOCK_TOKENS, 60.0, None)


def sink_on(cache_map: CacheMap) -> MapSink:
    return MapSink(WORKER, cache_map, Pace(), lambda: 5.0)


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


async def test_a_batch_that_was_cut_off_half_way_costs_the_map_at_the_next_connection():
    """The map counts copies of a block, so what was applied of the batch must not be applied again."""
    cache_map = new_map()
    sink = sink_on(cache_map)
    engine = SimulatedEngine(iter([Happening.PUBLISH]), iter([]), 10)
    follower = Follower(sink, engine.clock, Rhythm())
    sink.apply = _cut_off  # type: ignore[method-assign]
    following = asyncio.ensure_future(follower.follow(engine))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait([following])
    cache_map.apply(WORKER, decode(payload(stored(1))).events)
    del sink.apply
    again = asyncio.ensure_future(follower.follow(SimulatedEngine(iter([]), iter([]), 10)))
    await asyncio.wait([again])
    assert again.exception() is not None
    assert cache_map.blocks(WORKER) == 0


async def _cut_off(frame: Frame, *, live: bool) -> None:
    await asyncio.get_running_loop().create_future()


async def test_slices_of_many_workers_take_turns():
    pace = Pace()
    ran: list[tuple[int, str]] = []
    turn = 0

    async def work(name: str) -> None:
        for _ in range(3):
            await pace.run(lambda: ran.append((turn, name)))

    workers = [asyncio.create_task(work(name)) for name in "abc"]
    while not all(worker.done() for worker in workers):
        turn += 1
        await asyncio.sleep(0)
    turns = [turn for turn, _ in ran]
    assert len(set(turns)) == len(turns) == 9
    assert [name for _, name in ran[:3]] == ["a", "b", "c"]


def test_removed_blocks_are_those_that_were_stored():
    cache_map = new_map()
    cache_map.apply(WORKER, decode(payload(stored(1), removed(1))).events)
    assert cache_map.blocks(WORKER) == 0

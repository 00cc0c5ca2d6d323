import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from event_publisher import BLOCK_TOKENS, EventPublisher, removed, stored, tokens_of
from event_world import ENGINE, TEXT, engine
from eventually import eventually
from kvpool_api.wire import EventState
from kvpool_router.engine_metrics import Reading
from kvpool_router.events.subscriber import Subscription
from kvpool_router.events.wiring import SILENT, Source
from stoppable_relay import StoppableRelay


@pytest.fixture
def relay(publisher) -> Iterator[StoppableRelay]:
    with StoppableRelay(publisher.events, publisher.replay) as relay:
        yield relay


@contextmanager
def mute_listener() -> Iterator[str]:
    """Accepts connections and never says a word, as a hung process does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_late_joiner_replays_what_was_before_and_goes_on_live(world, publisher):
    publisher.publish([stored(0)], [stored(1)])
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    assert (world.cached(0), world.cached(1), world.last) == (16, 16, 1)
    publisher.publish([stored(2)])
    await eventually(lambda: world.cached(2))
    assert world.state is EventState.EXACT
    assert world.plane.standing(ENGINE).lag_ms == pytest.approx(250.0)


@pytest.mark.parametrize("parts", [3, 4])
async def test_a_gap_is_replayed_in_both_shapes_of_answer(world, parts):
    publisher = EventPublisher(replay_parts=parts)
    try:
        world.follow(engine(publisher))
        await eventually(lambda: world.synced)
        publisher.publish([stored(0)])
        await eventually(lambda: world.cached(0))
        publisher.publish([stored(1)], [stored(2)], lose=True)
        publisher.publish([stored(3)])
        await eventually(lambda: world.cached(3))
        assert [world.cached(block) for block in range(4)] == [16] * 4
        assert world.map.blocks(ENGINE) == 4
        assert world.plane.standing(ENGINE).gaps == 1
        assert world.state is EventState.EXACT
    finally:
        publisher.close()


async def test_events_published_during_the_replay_are_neither_lost_nor_counted_twice(world, publisher):
    publisher.publish(*([stored(block)] for block in range(300)))
    world.follow(engine(publisher))
    for block in range(300, 500):
        publisher.publish([stored(block), stored(block)], [removed(block)])
        await asyncio.sleep(0)
    await eventually(lambda: world.last == publisher.sequence - 1)
    assert world.map.blocks(ENGINE) == 500
    publisher.publish(*([removed(block)] for block in range(500)))
    await eventually(lambda: world.last == publisher.sequence - 1)
    assert world.map.blocks(ENGINE) == 0


async def test_a_lost_last_batch_is_fetched_once_the_stream_is_silent(world, publisher):
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    publisher.publish([stored(0)], lose=True)
    await eventually(lambda: world.cached(0))


async def test_credit_is_gone_within_a_second_of_a_lost_connection(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    publisher.close()
    assert await eventually(lambda: not world.cached(0)) < 1.0
    await eventually(lambda: world.state is EventState.APPROXIMATE)
    assert "lost" in world.reason
    assert not world.synced


async def test_an_identical_last_batch_after_a_reconnect_keeps_the_map(world, publisher):
    publisher.publish([stored(0)], [stored(1)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(1))
    with again(publisher, [stored(0)], [stored(1)], [stored(2)]) as same:
        await eventually(lambda: world.cached(2) and world.state is EventState.EXACT)
        assert (world.cached(0), world.cached(1)) == (16, 16)
        assert world.plane.standing(ENGINE).restarts == 0
        assert same.replays >= 1


@pytest.mark.parametrize("batches", [1, 2, 3])
async def test_a_restarted_publisher_costs_the_map_whether_it_has_fewer_or_more_batches(world, publisher, batches):
    publisher.publish([stored(0)], [stored(1)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(1))
    with again(publisher, *([stored(10 + each)] for each in range(batches))):
        await eventually(lambda: world.cached(9 + batches) and world.state is EventState.EXACT)
        assert (world.cached(0), world.cached(1)) == (0, 0)
        assert world.map.blocks(ENGINE) == batches


async def test_a_stream_renumbered_in_place_costs_the_map(world, publisher):
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    publisher.publish([stored(0)], [stored(1)])
    await eventually(lambda: world.cached(1))
    publisher.renumber()
    publisher.publish([stored(7)])
    await eventually(lambda: world.cached(7))
    assert world.map.blocks(ENGINE) == 1


@pytest.mark.parametrize("change", [{"pod_uid": "uid-2"}, {"restart_count": 1}])
async def test_another_process_by_membership_begins_from_nothing(world, publisher, change):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    with again(publisher) as fresh:
        world.follow(engine(publisher, **change))
        assert world.cached(0) == 0
        fresh.publish([stored(5)])
        await eventually(lambda: world.cached(5))


async def test_a_change_that_is_none_of_the_events_business_keeps_the_stream(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    world.follow(engine(publisher, draining=True, ready=False))
    assert world.cached(0) == 16
    assert world.synced


async def test_a_worker_that_is_gone_leaves_nothing_behind(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    world.follow()
    assert world.cached(0) == 0
    assert world.plane.standing(ENGINE) is None
    publisher.publish([stored(1)])
    await world.plane.close()
    assert world.map.blocks(ENGINE) == 0


async def test_a_buffer_that_has_turned_over_is_degraded_until_the_cache_has(world):
    publisher = EventPublisher(buffer_batches=2)
    try:
        publisher.publish(*([stored(block)] for block in range(5)))
        world.follow(engine(publisher))
        await eventually(lambda: world.synced)
        assert (world.cached(2), world.cached(3), world.state) == (0, 16, EventState.DEGRADED)
        assert "engine's buffer begins" in world.reason
        world.plane.read(ENGINE, Reading(cache_tokens=4 * BLOCK_TOKENS))
        publisher.publish([stored(8)], [stored(9)])
        await eventually(lambda: world.state is EventState.EXACT)
    finally:
        publisher.close()


async def test_a_cleared_cache_makes_a_partial_history_whole(world):
    publisher = EventPublisher(buffer_batches=1)
    try:
        publisher.publish([stored(0)], [stored(1)])
        world.follow(engine(publisher))
        await eventually(lambda: world.state is EventState.DEGRADED and world.synced)
        publisher.publish([{"type": "AllBlocksCleared"}])
        await eventually(lambda: world.state is EventState.EXACT)
    finally:
        publisher.close()


async def test_a_hung_replay_port_leaves_live_events_flowing_and_is_asked_again(world, publisher):
    publisher.publish([stored(0)])
    publisher.hung = True
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    publisher.publish([stored(1)])
    await eventually(lambda: world.cached(1))
    assert world.state is EventState.DEGRADED
    assert "gave no answer" in world.reason
    publisher.hung = False
    await eventually(lambda: world.state is EventState.EXACT)
    assert (world.cached(0), world.cached(1)) == (16, 16)


async def test_a_blocked_replay_port_leaves_live_events_flowing(world, publisher):
    with mute_listener() as mute:
        world.follow(engine(publisher, replay=mute))
        await eventually(lambda: world.synced)
        publisher.publish([stored(0)])
        await eventually(lambda: world.cached(0))
        assert world.state is EventState.EXACT


async def test_a_pod_without_a_replay_port_is_followed_live(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher, replay=None))
    await eventually(lambda: world.synced)
    publisher.publish([stored(1)])
    await eventually(lambda: world.cached(1))
    assert world.state is EventState.DEGRADED
    assert "no kv-replay port" in world.reason


async def test_a_pod_without_an_events_port_counts_by_predictions_and_is_waited_for_by_nobody(world, publisher):
    world.follow(engine(publisher, events=None))
    assert (world.state, world.synced) == (EventState.APPROXIMATE, True)
    assert "no kv-events port" in world.reason


async def test_a_publisher_that_is_not_there_yet_is_approximate_and_found_when_it_comes(world):
    publisher = EventPublisher()
    publisher.close()
    world.follow(engine(publisher))
    await eventually(lambda: "nothing listens" in world.reason)
    assert (world.state, world.synced) == (EventState.APPROXIMATE, False)
    world.map.sent(ENGINE, tokens_of(3), TEXT, now=0.0)
    assert world.predicted(3) == 16
    with again(publisher, [stored(0)]):
        await eventually(lambda: world.cached(0))


async def test_a_hung_publisher_is_approximate_with_its_reason(world, publisher):
    with mute_listener() as mute:
        world.follow(engine(publisher, events=mute))
        await eventually(lambda: "no event publisher answers" in world.reason)
        assert world.state is EventState.APPROXIMATE


async def test_a_publisher_that_hangs_while_shaking_hands_is_tried_again(world, publisher, monkeypatch):
    monkeypatch.setattr("kvpool_router.events.subscriber.LONGEST_HANDSHAKE_MS", 50)
    with mute_listener() as mute:
        world.follow(engine(publisher, events=mute))
        await eventually(lambda: "or it hangs" in world.reason)


async def test_the_reason_stays_the_same_while_a_hung_publisher_is_tried_again_and_again(world, publisher, monkeypatch):
    """It becomes a condition's message: one that comes and goes would be written at every round."""
    monkeypatch.setattr("kvpool_router.events.subscriber.LONGEST_HANDSHAKE_MS", 20)
    attempts = 0
    established = Subscription.established

    async def counted(subscription, hindered):
        nonlocal attempts
        attempts += 1
        return await established(subscription, hindered)

    monkeypatch.setattr(Subscription, "established", counted)
    with mute_listener() as mute:
        world.follow(engine(publisher, events=mute))
        await eventually(lambda: "or it hangs" in world.reason)
        reasons = set()
        await eventually(lambda: reasons.add(world.reason) or attempts >= 4)
    assert len(reasons) == 1


async def test_another_kind_of_socket_at_the_events_address_shows_and_is_left_for_a_publisher(world, publisher):
    """The two ports of a pod told the wrong way round, until somebody mends it."""
    world.follow(engine(publisher, events=publisher.replay))
    await eventually(lambda: "no event publisher answers" in world.reason)
    assert world.state is EventState.APPROXIMATE
    address = publisher.replay
    publisher.close()
    right = EventPublisher(events=address)
    try:
        right.publish([stored(0)])
        await eventually(lambda: world.synced)
        right.publish([stored(1)])
        await eventually(lambda: world.cached(1))
    finally:
        right.close()


async def test_predictions_count_again_once_a_lost_connection_stays_lost(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    world.map.sent(ENGINE, tokens_of(3), TEXT, now=0.0)
    publisher.close()
    await eventually(lambda: not world.cached(0))
    world.map.sent(ENGINE, tokens_of(4), TEXT, now=0.0)
    assert world.predicted(4) == 0

    def later() -> int:
        world.map.sent(ENGINE, tokens_of(5), TEXT, now=0.0)
        world.map.sent(ENGINE, tokens_of(0), TEXT, now=0.0)
        return world.predicted(5)

    await eventually(later)
    assert (world.cached(0), world.predicted(0)) == (0, 16), "a prompt that was held before is expected like any other"
    assert (world.predicted(3), world.predicted(4)) == (0, 0), "nobody knows what became of them"


async def test_a_map_outlives_an_outage_that_is_longer_than_the_engines_buffer_is(world):
    """The first blocks of a long life are in no buffer any more; the engine holds them all the same."""
    small = EventPublisher(buffer_batches=2)
    try:
        world.follow(engine(small))
        await eventually(lambda: world.synced)
        for block in range(4):
            small.publish([stored(block)])
            await eventually(lambda block=block: world.cached(block))
        address = small.events
        small.unbind()
        await eventually(lambda: not world.cached(0))
        world.map.sent(ENGINE, tokens_of(9), TEXT, now=0.0)
        small.publish([stored(4)])
        await eventually(lambda: world.predicted(8) or world.map.sent(ENGINE, tokens_of(8), TEXT, now=0.0))
        small.bind(address)
        await eventually(lambda: world.state is EventState.EXACT)
        assert [world.cached(block) for block in range(5)] == [16] * 5
    finally:
        small.close()


async def test_after_an_outage_that_the_buffer_does_not_reach_over_only_what_is_confirmed_counts(world):
    small = EventPublisher(buffer_batches=2)
    try:
        small.publish([stored(0, blocks=2), stored(1)])
        world.follow(engine(small))
        await eventually(lambda: world.cached(0, blocks=2))
        address = small.events
        small.unbind()
        await eventually(lambda: not world.cached(1))
        small.publish([removed(1)], [stored(5)], [stored(6)], [stored(7)])
        small.bind(address)
        await eventually(lambda: world.cached(7))
        assert (world.state, world.cached(0), world.cached(1), world.cached(5)) == (EventState.DEGRADED, 0, 0, 0)
        assert "lost for good" in world.reason
        after = {"block_hashes": [77], "parent_block_hash": 2, "token_ids": [1] * BLOCK_TOKENS}
        small.publish([stored(0) | after])
        await eventually(lambda: world.cached(0, blocks=2) == 32)
        assert world.cached(1) == 0
        world.plane.read(ENGINE, Reading(cache_tokens=4 * BLOCK_TOKENS))
        small.publish([stored(8), stored(9)])
        await eventually(lambda: world.state is EventState.EXACT)
    finally:
        small.close()


async def test_a_stopped_publisher_loses_its_credit_though_no_connection_closes(world, relay, publisher):
    """As where packets are dropped or a process is stopped: nothing closes, nothing comes."""
    publisher.publish([stored(0)])
    world.follow(engine(publisher, events=relay.events, replay=relay.replay))
    await eventually(lambda: world.cached(0))
    relay.stop()
    assert await eventually(lambda: not world.cached(0)) < 6.0
    await eventually(lambda: world.state is EventState.APPROXIMATE)
    publisher.publish([stored(1)])
    relay.go_on()
    assert await eventually(lambda: world.state is EventState.EXACT) < 5.0
    assert (world.cached(0), world.cached(1)) == (16, 16)


async def test_an_address_that_is_none_shows_as_its_reason(world, publisher):
    world.follow(engine(publisher, events="carrier-pigeon://roof"))
    await eventually(lambda: "cannot be used" in world.reason)
    assert world.state is EventState.APPROXIMATE


async def test_malformed_payloads_are_counted_and_the_stream_goes_on(world, publisher):
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    publisher.publish_payload(b"\xc1 not msgpack")
    publisher.publish_payload(msgspec.msgpack.encode([1.0, [{"type": "Unheard"}, stored(1)], 0]))
    publisher.send_raw(b"kv@test", b"short", b"")
    publisher.publish([stored(2)])
    await eventually(lambda: world.cached(2))
    assert world.cached(1) == 16
    assert (world.state, world.plane.standing(ENGINE).gaps) == (EventState.DEGRADED, 0)
    assert "could not be read at all" in world.reason
    assert world.heard.skips == ["illegible", "unknown", "message"]
    await eventually(lambda: world.plane.standing(ENGINE).skipped_events == 3)


async def test_an_engine_whose_blocks_are_of_another_size_is_followed_as_any(world, publisher):
    publisher.publish([stored(0, block_tokens=2 * BLOCK_TOKENS)])
    world.follow(engine(publisher))
    await eventually(lambda: world.map.blocks(ENGINE))
    assert world.map.block_tokens(ENGINE) == 2 * BLOCK_TOKENS
    await eventually(lambda: world.state is EventState.EXACT)


async def test_others_get_turns_of_the_loop_during_a_long_history(world, publisher):
    publisher.publish([stored(block, blocks=32) for block in range(200)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += not world.synced and world.map.blocks(ENGINE) > 0
            await asyncio.sleep(0)

    world.follow(engine(publisher))
    counting = asyncio.create_task(count())
    await eventually(lambda: world.synced)
    counting.cancel()
    await asyncio.wait([counting])
    assert world.map.blocks(ENGINE) == 200 * 32
    assert turns > 1  # how many is the machine's to say; the pace itself is held to a clock of the test's own elsewhere


async def test_an_error_nobody_foresaw_ends_one_stream_and_not_the_plane(world, publisher, monkeypatch, caplog):
    monkeypatch.setattr("kvpool_router.events.stream.FAULT_PAUSE_S", 0.05)
    publisher.publish([stored(0)])
    broken = iter([True])
    apply = world.map.apply

    def failing(worker, events):
        if next(broken, False):
            raise RuntimeError("boom")
        return apply(worker, events)

    monkeypatch.setattr(world.map, "apply", failing)
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    assert world.state is EventState.EXACT
    assert "beginning again" in caplog.text


@contextmanager
def again(publisher: EventPublisher, *batches: list[dict[str, object]]) -> Iterator[EventPublisher]:
    """Another process at the same addresses, with these batches published already."""
    publisher.close()
    successor = EventPublisher(publisher.events, publisher.replay)
    try:
        successor.publish(*batches)
        yield successor
    finally:
        successor.close()


OWN = Source(topic="kv@test")


async def test_a_stream_that_bears_the_topic_that_the_engine_tells_is_confirmed(world, publisher):
    world.follow(engine(publisher))
    assert world.plane.standing(ENGINE).wiring_confirmed is None
    world.plane.wired(ENGINE, OWN)
    publisher.publish([stored(0)])
    await eventually(lambda: world.cached(0))
    assert world.plane.standing(ENGINE).wiring_confirmed is True
    assert world.state is EventState.EXACT


@pytest.mark.parametrize("told_first", [True, False])
async def test_blocks_of_another_engine_give_no_credit_and_predictions_go_on(world, publisher, told_first):
    world.follow(engine(publisher))
    await eventually(lambda: world.synced)
    if told_first:
        world.plane.wired(ENGINE, Source(topic="kv@other"))
    publisher.publish([stored(0)])
    if not told_first:
        await eventually(lambda: world.cached(0))
        world.plane.wired(ENGINE, Source(topic="kv@other"))
    await eventually(lambda: world.state is EventState.APPROXIMATE)
    assert "another engine's" in world.reason
    assert world.plane.standing(ENGINE).wiring_confirmed is False
    assert world.synced
    publisher.publish([stored(1)])
    world.map.sent(ENGINE, tokens_of(2), TEXT, now=0.0)
    assert (world.cached(0), world.cached(1), world.predicted(2)) == (0, 0, 16)


async def test_a_new_process_under_a_name_that_was_miswired_is_followed_again(world, publisher):
    publisher.publish([stored(0)])
    world.follow(engine(publisher))
    await eventually(lambda: world.cached(0))
    world.plane.wired(ENGINE, SILENT)
    assert (world.cached(0), world.state) == (0, EventState.APPROXIMATE)
    world.follow(engine(publisher, restart_count=1))
    await eventually(lambda: world.cached(0))
    assert world.state is EventState.EXACT


async def test_what_an_engine_has_told_holds_also_where_its_events_are_then_looked_for_elsewhere(world, publisher):
    world.follow(engine(publisher))
    world.plane.wired(ENGINE, Source(topic="kv@other"))
    elsewhere = EventPublisher()
    try:
        world.follow(engine(elsewhere))
        await eventually(lambda: world.synced)
        elsewhere.publish([stored(0)])
        await eventually(lambda: "another engine's" in world.reason)
        assert world.cached(0) == 0
    finally:
        elsewhere.close()


async def test_where_the_engine_publishes_is_told_while_nothing_answers_where_it_should(world, publisher):
    publisher.close()
    world.follow(engine(publisher))
    world.plane.wired(ENGINE, Source(endpoint="tcp://*:1", topic="kv@test"))
    await eventually(lambda: "offers its events at tcp://*:1" in world.reason)
    assert world.state is EventState.APPROXIMATE
    assert world.plane.standing(ENGINE).wiring_confirmed is False


async def test_wiring_of_a_worker_that_is_not_followed_is_of_no_use(world):
    world.plane.wired(ENGINE, OWN)
    assert world.plane.standing(ENGINE) is None

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kvpool_router.events.follower import MAX_ASKS, Follower, Rhythm
from kvpool_router.events.sequence import Frame
from simulated_stream import CheckedMap, Fault, Finished, Happening, Lost, SimulatedEngine

PUBLISH, LOSE, RENUMBER, DISCONNECT, RESTART, QUIET = Happening


def play(
    script: list[Happening], faults: Sequence[Fault] = (), *, buffer_batches: int = 100, busy: bool = False
) -> tuple[SimulatedEngine, CheckedMap, Follower]:
    """Follows the script to its end, connection after connection; the map checks every step."""
    engine = SimulatedEngine(iter(script), iter(faults), buffer_batches, publishes_during_replay=busy)
    held = CheckedMap()
    follower = Follower(held, engine.clock, Rhythm())
    asyncio.run(_play(engine, held, follower))
    return engine, held, follower


async def _play(engine: SimulatedEngine, held: CheckedMap, follower: Follower) -> None:
    while True:
        engine.connect()
        try:
            await follower.follow(engine)
        except Lost:
            held.suspend()
        except Finished:
            return


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(Happening), max_size=40),
    st.lists(st.sampled_from(Fault), max_size=12),
    st.integers(1, 12),
    st.booleans(),
)
@example([PUBLISH, PUBLISH, LOSE, PUBLISH], [Fault.NONE, Fault.HOLE, Fault.HOLE], 10, False)
def test_once_quiet_the_map_holds_the_stream_without_loss_or_double_count(script, faults, buffer_batches, busy):
    engine, held, follower = play(
        [*script, *[QUIET] * (len(faults) + 3)], faults, buffer_batches=buffer_batches, busy=busy
    )
    expected = engine.published[len(engine.published) - len(held.held) :]
    assert held.held == expected
    assert held.credited
    if not faults:
        assert len(held.held) >= min(buffer_batches, len(engine.published))
    if follower.marks.complete and follower.facts.replay_trouble is None:
        assert held.held == engine.published


@given(st.lists(st.sampled_from([PUBLISH, LOSE, QUIET]), max_size=40))
def test_with_a_buffer_that_holds_all_any_pattern_of_loss_is_made_good_without_dropping_the_map(script):
    engine, held, follower = play([*script, QUIET])
    assert held.held == engine.published
    assert held.drops == 0
    assert follower.marks.complete


def test_a_gap_is_replayed_and_counted_once():
    _, held, follower = play([PUBLISH, LOSE, LOSE, PUBLISH, PUBLISH])
    assert [frame.sequence for frame in held.held] == [0, 1, 2, 3, 4]
    assert follower.facts.gaps == 1


def test_a_lost_last_batch_is_found_when_the_stream_falls_silent():
    _, held, follower = play([PUBLISH, LOSE, QUIET])
    assert [frame.sequence for frame in held.held] == [0, 1]
    assert follower.facts.gaps == 1


def test_an_identical_last_batch_after_a_reconnect_keeps_the_map():
    _, held, _ = play([PUBLISH, PUBLISH, DISCONNECT, PUBLISH])
    assert [frame.sequence for frame in held.held] == [0, 1, 2]
    assert held.drops == 0


@pytest.mark.parametrize("published_before", [1, 2, 3, 5])
def test_another_process_behind_the_address_costs_the_map(published_before):
    engine, held, follower = play([PUBLISH] * published_before + [RESTART, PUBLISH])
    assert held.held == engine.published
    assert follower.facts.restarts == 1


def test_a_stream_renumbered_in_place_costs_the_map():
    engine, held, follower = play([PUBLISH] * 3 + [RENUMBER, PUBLISH])
    assert held.held == engine.published
    assert follower.facts.restarts == 1


def test_a_buffer_that_has_turned_over_leaves_an_incomplete_history():
    engine, held, follower = play([PUBLISH, LOSE, LOSE, LOSE, LOSE, PUBLISH], buffer_batches=2)
    assert held.held == engine.published[-2:]
    assert not follower.marks.complete


def test_a_hole_in_the_engines_own_buffer_is_given_up_after_a_second_look():
    engine, held, follower = play([*[LOSE] * 5, PUBLISH], [Fault.NONE, *[Fault.HOLE] * 3])
    assert held.held == engine.published[2:]
    assert follower.marks.first == 2


def test_an_answer_cut_short_is_asked_for_again_from_where_it_broke():
    engine, held, follower = play([*[LOSE] * 5, PUBLISH], [Fault.NONE, Fault.CUT, Fault.CUT])
    assert held.held == engine.published
    assert follower.marks.complete


def test_without_replay_live_batches_count_from_where_they_begin():
    engine, held, follower = play([LOSE, LOSE, PUBLISH, PUBLISH], [Fault.SILENT] * 9)
    assert held.held == engine.published[2:]
    assert follower.facts.replay_trouble == "silent"
    assert held.credited


def test_a_history_missed_for_want_of_replay_is_fetched_later():
    engine, held, follower = play([LOSE, LOSE, PUBLISH, QUIET, PUBLISH], [Fault.SILENT] * 1)
    assert held.held == engine.published
    assert follower.marks.complete


def test_a_missed_history_is_fetched_from_a_stream_that_never_falls_silent():
    engine, held, follower = play([LOSE, LOSE, *[PUBLISH] * 6], [Fault.SILENT])
    assert held.held == engine.published
    assert follower.marks.complete


def test_an_engine_that_contradicts_itself_is_left_alone_for_a_while():
    class Babbler(SimulatedEngine):
        async def replay(self, first: int) -> AsyncGenerator[Frame, None]:
            self.asked += 1
            for sequence in (0, 1, 0):
                yield Frame(sequence, b"0:%d" % self.asked)

    engine = Babbler(iter([]), iter([]), 10)
    held = CheckedMap()
    follower = Follower(held, engine.clock, Rhythm())
    asyncio.run(_play(engine, held, follower))
    assert engine.asked == MAX_ASKS
    assert follower.facts.replay_trouble == "replays contradict each other"


def test_silence_asks_for_nothing_while_replays_are_put_off():
    class Halted(SimulatedEngine):
        def clock(self) -> float:
            return 0.0

    engine = Halted(iter([QUIET] * 5), iter([Fault.SILENT]), 10)
    held = CheckedMap()
    asyncio.run(_play(engine, held, Follower(held, engine.clock, Rhythm())))
    assert engine.asked == 1


def test_a_map_that_cannot_be_recognised_after_a_reconnect_is_dropped():
    _, held, _ = play([PUBLISH, PUBLISH, DISCONNECT], [Fault.NONE, Fault.SILENT])
    assert held.held == []
    assert held.credited


def test_replays_that_fail_are_not_asked_for_at_every_batch():
    engine, held, _ = play([PUBLISH, *[LOSE, PUBLISH] * 40], [Fault.NONE, *[Fault.SILENT] * 80])
    assert 2 < engine.asked < 10
    assert held.held[-1:] == engine.published[-1:]


def test_an_engine_without_a_replay_buffer_keeps_its_map_while_connected():
    engine, held, _ = play([PUBLISH, PUBLISH, QUIET, PUBLISH], buffer_batches=0)
    assert held.held == engine.published

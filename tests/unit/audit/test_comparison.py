"""What an answer says of the map, from the map's word and the engine's."""

from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.audit.comparison import Evidence, MapsWord, Outcome, compare, evidence

FOR = {Evidence.CREDIT_HELD, Evidence.HOLDING_KNOWN}
AGAINST = {Evidence.CREDIT_FALSE, Evidence.HOLDING_UNKNOWN}
BLOCKS = st.integers(0, 12)


@st.composite
def words(draw):
    at_placing = draw(BLOCKS)
    least, most = draw(st.integers(0, at_placing)), at_placing + draw(BLOCKS)
    return MapsWord(at_placing + draw(st.integers(0, 3)), at_placing, least, most)


@given(words(), BLOCKS)
def test_blocks_over_and_under_are_what_was_predicted_less_what_was_found(said, found):
    finding = compare(said, found)
    assert finding.over_blocks - finding.under_blocks == said.predicted - found
    assert min(finding.over_blocks, finding.under_blocks) == 0
    assert (finding.outcome is Outcome.EQUAL) == (said.predicted == found)


@given(words(), BLOCKS)
def test_what_the_map_itself_said_at_some_time_is_never_held_against_it(said, found):
    if said.least <= found <= said.most:
        assert not AGAINST & set(evidence(said, found))
        assert compare(said, found).outcome not in (Outcome.FALSE, Outcome.MISSED)


@given(words(), BLOCKS)
def test_one_block_proves_nothing_and_no_answer_is_for_and_against_at_once(said, found):
    told = set(evidence(said, found))
    assert not ({Evidence.CREDIT_HELD, Evidence.CREDIT_FALSE} <= told)
    assert not ({Evidence.HOLDING_KNOWN, Evidence.HOLDING_UNKNOWN} <= told)
    if said.least - found <= 1 and found - said.most <= 1:
        assert not AGAINST & told
    if said.least == said.most == found == 0:
        assert not told


def test_an_engine_that_holds_nothing_of_what_the_map_never_lost_makes_it_false():
    said = MapsWord(predicted=9, at_placing=9, least=9, most=12)
    assert compare(said, 0).outcome is Outcome.FALSE
    assert evidence(said, 0) == (Evidence.CREDIT_FALSE,)


def test_what_was_evicted_while_the_request_queued_is_told_apart():
    said = MapsWord(predicted=9, at_placing=9, least=4, most=12)
    assert compare(said, 4).outcome is Outcome.EVICTED
    assert evidence(said, 4) == (Evidence.CREDIT_HELD, Evidence.HOLDING_KNOWN)


def test_a_prompt_that_was_only_sent_and_did_not_come_is_told_apart():
    said = MapsWord(predicted=9, at_placing=2, least=2, most=12)
    assert compare(said, 2).outcome is Outcome.UNFULFILLED
    assert Evidence.CREDIT_FALSE not in evidence(said, 2)


def test_a_sibling_that_came_first_is_learned_and_what_no_event_told_is_missed():
    assert compare(MapsWord(0, 0, 0, most=8), 8).outcome is Outcome.LEARNED
    assert compare(MapsWord(0, 0, 0, most=0), 8).outcome is Outcome.MISSED
    assert evidence(MapsWord(0, 0, 0, most=0), 8) == (Evidence.HOLDING_UNKNOWN,)

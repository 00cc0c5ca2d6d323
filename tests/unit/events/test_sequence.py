import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.sequence import KEPT_DIGESTS, Answer, Frame, Verdict, Watermarks, digest


def frame(sequence: int, content: str = "") -> Frame:
    return Frame(sequence, f"{sequence}{content}".encode())


def applied_up_to(last: int) -> Watermarks:
    marks = Watermarks()
    for sequence in range(last + 1):
        marks.advance(frame(sequence))
    return marks


def test_the_next_number_is_applied_and_a_later_one_is_a_gap():
    marks = applied_up_to(4)
    assert marks.live(frame(5)) is Verdict.APPLY
    assert marks.live(frame(7)) is Verdict.GAP


def test_a_stream_that_does_not_begin_at_0_is_a_gap():
    assert Watermarks().live(frame(3)) is Verdict.GAP


def test_a_live_batch_that_a_replay_brought_before_is_skipped():
    assert applied_up_to(4).live(frame(3)) is Verdict.SKIP


def test_a_number_that_goes_back_within_a_connection_is_a_restart():
    marks = applied_up_to(4)
    marks.live(frame(5))
    assert marks.live(frame(0)) is Verdict.RESTART


def test_a_number_may_go_back_over_a_new_connection():
    marks = applied_up_to(4)
    marks.live(frame(4))
    marks.connected()
    assert marks.live(frame(4)) is Verdict.SKIP


def test_an_applied_number_with_other_content_is_a_restart():
    assert applied_up_to(4).live(frame(3, "other")) is Verdict.RESTART


def test_content_older_than_the_kept_hashes_is_not_held_against_the_engine():
    marks = applied_up_to(KEPT_DIGESTS)
    assert marks.judge(frame(0, "other")) is Verdict.SKIP
    assert marks.judge(frame(1, "other")) is Verdict.RESTART


def test_a_history_that_begins_late_is_incomplete_until_forgotten():
    marks = Watermarks()
    marks.advance(frame(9))
    assert (marks.first, marks.complete) == (9, False)
    marks.forget()
    assert marks.complete


def test_a_replay_is_asked_from_the_last_applied_batch_inclusive():
    assert Answer(applied_up_to(4)).asked_from == 4
    assert Answer(Watermarks()).asked_from == 0


def test_an_answer_that_begins_with_the_last_applied_batch_goes_on_from_there():
    answer = Answer(applied_up_to(4))
    assert [answer.batch(frame(4)), answer.batch(frame(5)), answer.end()] == [Verdict.SKIP, Verdict.APPLY, Verdict.SKIP]


@pytest.mark.parametrize("first", [frame(4, "other"), frame(2)])
def test_an_answer_that_begins_with_another_batch_of_that_number_or_before_is_a_restart(first):
    assert Answer(applied_up_to(4)).batch(first) is Verdict.RESTART


def test_an_answer_that_begins_later_says_that_what_is_between_is_lost():
    assert Answer(applied_up_to(4)).batch(frame(5)) is Verdict.LOST


def test_an_empty_answer_is_a_restart_only_if_something_was_applied():
    assert Answer(applied_up_to(4)).end() is Verdict.RESTART
    assert Answer(Watermarks()).end() is Verdict.SKIP


def test_with_nothing_applied_an_answer_begins_where_the_buffer_does():
    assert Answer(Watermarks()).batch(frame(70)) is Verdict.APPLY


def test_a_hole_within_an_answer_is_a_gap_and_a_number_that_goes_back_a_restart():
    marks = applied_up_to(4)
    answer = Answer(marks)
    answer.batch(frame(4))
    assert answer.batch(frame(6)) is Verdict.GAP
    assert answer.batch(frame(4)) is Verdict.RESTART


@given(st.lists(st.integers(0, 12), max_size=60))
def test_whatever_arrives_each_batch_is_applied_at_most_once_and_in_order(arrivals):
    marks = Watermarks()
    applied: list[int] = []
    for sequence in arrivals:
        if marks.judge(frame(sequence)) is Verdict.APPLY:
            marks.advance(frame(sequence))
            applied.append(sequence)
    assert applied == list(range(len(applied)))
    assert marks.applied == len(applied) - 1


def test_a_batch_has_the_same_digest_in_every_process():
    assert digest(b"batch").hex() == "0e1d05d0c0ed1714"


def test_a_stream_goes_on_from_where_another_follower_was():
    before = applied_up_to(4)
    assert before.last_digest is not None
    after = Watermarks()
    after.resume(before.first, before.applied, before.last_digest)
    assert after.judge(frame(5)) is Verdict.APPLY
    assert Answer(after).batch(frame(4)) is Verdict.SKIP
    assert Answer(after).batch(frame(4, "other")) is Verdict.RESTART
    assert after.judge(frame(3, "not known")) is Verdict.SKIP


def test_nothing_applied_has_no_digest():
    marks = applied_up_to(1)
    marks.forget()
    assert marks.last_digest is None

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.calibration import Calibration
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.load import Load
from kvpool_router.siblings.deeds import Anew, Done, FirstToken, decoded, encoded
from kvpool_router.siblings.ledger import Ledger
from kvpool_router.workers import Incarnation, WorkerId
from sibling_deeds import NAMESPACE, PROCESS, PROMPT, WORKERS, sent


class Books:
    def __init__(self):
        self.load = Load(Calibration())
        self.cache = CacheMap(16, 60.0, 4096)
        self.ledger = Ledger(self.load, self.cache, dict.fromkeys(WORKERS, PROCESS).get)
        self.now = 0.0

    def take(self, *deeds):
        for deed in deeds:
            self.now += 0.01
            self.ledger.take(deed, self.now)

    def standing(self, worker=WORKERS[0]):
        return self.load.standing(worker, self.now)

    def is_at_rest(self):
        return all(
            (at.queued_requests, at.queued_tokens, at.queued_s, at.running, at.context_tokens, at.in_flight)
            == (0, 0, 0.0, 0, 0, 0)
            for at in map(self.standing, WORKERS)
        )


NUMBERS = st.integers(1, 6)
DEEDS = st.one_of(
    st.builds(sent, NUMBERS, st.sampled_from(WORKERS), streams=st.booleans(), prompt_tokens=st.integers(16, 99)),
    st.builds(FirstToken, NUMBERS),
    st.builds(Done, NUMBERS, st.booleans()),
    st.builds(Anew),
)


@given(st.lists(DEEDS, max_size=40), st.booleans())
def test_deeds_in_any_order_leave_nothing_booked_once_all_are_done_or_the_sibling_is_gone(deeds, is_gone):
    books = Books()
    books.take(*deeds)
    assert len(books.ledger) == sum(books.standing(worker).in_flight for worker in WORKERS)
    if is_gone:
        books.ledger.close(books.now)
    else:
        books.take(*(Done(number, computed=True) for number in range(1, 7)))
    assert len(books.ledger) == 0
    assert books.is_at_rest()


def test_a_siblings_request_is_load_a_prediction_and_history_but_not_in_flight_here():
    books = Books()
    books.take(sent(1))
    at = books.standing()
    assert (at.queued_requests, at.queued_tokens, at.in_flight) == (1, 24, 1)
    held = books.cache.match(PROMPT, NAMESPACE, books.now)[WORKERS[0]]
    assert (held.predicted_tokens, held.history_tokens) == (32, 32)
    assert (books.load.in_flight(WORKERS[0]), books.load.queued_tokens(WORKERS[0])) == (0, 0)
    books.take(FirstToken(1))
    assert (books.standing().queued_requests, books.standing().running) == (0, 1)


def predicted(books):
    return books.cache.match(PROMPT, NAMESPACE, books.now)[WORKERS[0]].predicted_tokens


@pytest.mark.parametrize(("computed", "tokens"), [(True, 32), (False, 0)])
def test_a_siblings_prompt_is_predicted_on_only_where_it_was_computed(computed, tokens):
    books = Books()
    books.take(sent(1), Done(1, computed))
    assert predicted(books) == tokens


def test_a_prompt_that_one_request_was_refused_is_predicted_for_another():
    books = Books()
    books.take(sent(1), sent(2), Done(1, computed=False))
    assert predicted(books) == 32
    books.take(Done(2, computed=False))
    assert predicted(books) == 0


def test_what_is_told_anew_is_predicted_once():
    books = Books()
    books.take(sent(1), Anew(), sent(1))
    assert predicted(books) == 32
    books.take(Done(1, computed=False))
    assert predicted(books) == 0


def test_what_was_open_at_a_sibling_that_is_not_heard_any_more_is_predicted_no_longer():
    books = Books()
    books.take(sent(1))
    books.ledger.close(books.now)
    assert predicted(books) == 0


def test_what_a_sibling_sends_to_a_process_that_is_not_known_here_leaves_no_trace():
    books = Books()
    books.take(sent(1, WorkerId("stranger", 0)), sent(2, process=Incarnation("uid-1", 7)))
    assert len(books.ledger) == 0
    assert books.cache.size().workers == 0


@given(st.lists(DEEDS, max_size=20))
def test_deeds_arrive_as_they_were_sent(deeds):
    assert decoded(encoded(deeds)) == deeds

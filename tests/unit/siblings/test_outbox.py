from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.siblings import outbox as outbox_module
from kvpool_router.siblings.deeds import Anew, Done, FirstToken, Sent
from kvpool_router.siblings.outbox import Outbox
from sibling_deeds import PROMPT, sent

STEPS = st.lists(st.tuples(st.sampled_from(["sent", "first", "done", "draw"]), st.integers(1, 5)), max_size=60)


def told_to(books, deeds):
    """What a sibling believes to be open: number -> whether its first token came."""
    for deed in deeds:
        match deed:
            case Anew():
                books.clear()
            case Sent():
                books[deed.number] = False
            case FirstToken():
                books[deed.number] = True
            case Done():
                books.pop(deed.number, None)


@given(STEPS, st.integers(1, 8))
def test_a_sibling_of_any_speed_believes_in_the_end_what_is_open(steps, most_waiting):
    outbox, truth, believed = Outbox(), {}, {}
    with outbox.listening(most_waiting) as listener:
        for deed, number in steps:
            if deed == "draw":
                told_to(believed, listener.drawn())
                assert believed == truth
            elif deed == "sent" and number not in truth:
                outbox.sent(sent(number))
                truth[number] = False
            elif deed == "first" and number in truth:
                outbox.first_token(number)
                truth[number] = True
            elif deed == "done":
                outbox.done(number, computed=True)
                truth.pop(number, None)
        told_to(believed, listener.drawn())
    assert believed == truth
    assert outbox.open == len(truth)


def test_what_a_slow_sibling_is_behind_is_bounded():
    outbox = Outbox()
    with outbox.listening(10) as listener:
        listener.drawn()
        for number in range(1000):
            outbox.sent(sent(number))
            outbox.done(number, computed=True)
        assert listener.drawn() == [Anew()]


def test_the_prompts_that_wait_for_a_slow_sibling_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(outbox_module, "MOST_WAITING_BYTES", 3 * len(PROMPT))
    outbox = Outbox()
    with outbox.listening() as listener:
        listener.drawn()
        for number in range(4):
            outbox.sent(sent(number))
            outbox.done(number, computed=True)
        assert listener.drawn() == [Anew()]
        outbox.sent(sent(4))
        assert listener.drawn() == [sent(4)], "what was told is not counted again"


def test_a_listener_that_left_is_told_nothing():
    outbox = Outbox()
    with outbox.listening() as listener:
        listener.drawn()
    outbox.sent(sent(1))
    assert listener.drawn() == []

"""Workers as places in one int."""

from kvpool_router.index.seats import Layer, Seats
from kvpool_router.workers import WorkerId


def test_the_lowest_free_seats_are_given_first_and_given_again():
    seats = Seats()
    a, b, c = (WorkerId(name, 0) for name in "abc")
    assert [seats.claim(worker) for worker in (a, b)] == [0, len(Layer)]
    members = 1 << 0 | 1 << len(Layer)
    assert seats.everyone() == members
    assert tuple(seats.workers(members)) == (a, b)
    seats.release(a)
    assert (seats.first(a), tuple(seats.workers(members))) == (None, (b,))
    assert seats.claim(c) == 0
    assert tuple(seats.workers(members)) == (c, b)


def test_sets_are_decoded_rightly_however_many_are_asked():
    seats = Seats()
    workers = [WorkerId(f"pod-{number}", 0) for number in range(12)]
    firsts = [seats.claim(worker) for worker in workers]
    for chosen in range(1 << 12):
        members = sum(1 << first for number, first in enumerate(firsts) if chosen >> number & 1)
        assert tuple(seats.workers(members)) == tuple(w for number, w in enumerate(workers) if chosen >> number & 1)

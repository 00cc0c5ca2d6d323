"""The books of requests in flight: never negative, never left over, in step with what the proxy sees."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from kvpool_router.calibration import BATCHED_TOKENS, PRIOR, Calibration
from kvpool_router.load import Load, Ticket
from kvpool_router.workers import WorkerId

ONE, OTHER = WorkerId("one", 0), WorkerId("other", 0)


def test_a_request_is_queued_until_its_first_token_then_decodes_until_done() -> None:
    load = Load(Calibration())
    ticket = load.sent(ONE, 1000, 600, streams=True, now=0.0)
    queued = load.standing(ONE, 0.0)
    assert (queued.queued_requests, queued.queued_tokens, queued.running) == (1, 400, 0)
    assert queued.queued_s == PRIOR.prefill_s(400, 600)
    load.first_token(ticket, 0.1)
    decoding = load.standing(ONE, 0.1)
    assert (decoding.queued_requests, decoding.queued_s, decoding.running, decoding.context_tokens) == (0, 0.0, 1, 1000)
    load.done(ticket, 0.2, output_tokens=5)
    load.done(ticket, 0.3)
    assert load.in_flight(ONE) == 0
    assert load.standing(ONE, 0.3).context_tokens == 0


def test_the_queue_shrinks_as_its_head_is_worked_on_but_never_below_the_rest() -> None:
    load = Load(Calibration())
    head, rest = (load.sent(ONE, 5000, 0, streams=True, now=0.0) for _ in range(2))
    full = load.standing(ONE, 0.0).queued_s
    assert load.standing(ONE, 0.05).queued_s == full - 0.05
    assert load.standing(ONE, 100.0).queued_s == rest.prefill_s
    load.first_token(head, 0.2)
    assert load.standing(ONE, 0.2).queued_s == rest.prefill_s


def test_a_request_that_is_not_streamed_counts_as_prefilled_when_its_time_is_up() -> None:
    load = Load(Calibration())
    ticket = load.sent(ONE, 1000, 0, streams=False, now=0.0)
    assert load.standing(ONE, ticket.due_at - 0.001).queued_requests == 1
    later = load.standing(ONE, ticket.due_at)
    assert (later.queued_requests, later.running) == (0, 1)
    load.done(ticket, 5.0, output_tokens=10)
    assert load.in_flight(ONE) == 0


def test_a_first_token_tells_that_those_before_it_are_prefilled_too() -> None:
    load = Load(Calibration())
    load.sent(ONE, 100_000, 0, streams=False, now=0.0)
    waiting = load.sent(ONE, 100, 0, streams=True, now=0.0)
    seen = load.sent(ONE, 100, 0, streams=True, now=0.0)
    load.first_token(seen, 0.5)
    assert load.standing(ONE, 0.5).queued_requests == 1
    load.first_token(waiting, 0.6)
    load.first_token(waiting, 0.7)
    assert (load.standing(ONE, 0.7).queued_requests, load.standing(ONE, 0.7).running) == (0, 3)


def test_what_the_engine_counts_beyond_ours_came_through_other_routers() -> None:
    load = Load(Calibration())
    load.observed(ONE, running=5, waiting=2, now=0.0)
    foreign = load.standing(ONE, 0.0)
    assert (foreign.running, foreign.queued_requests, foreign.in_flight) == (5, 2, 0)
    assert foreign.queued_s > 0
    load.sent(ONE, 1000, 0, streams=True, now=0.0)
    assert load.standing(ONE, 0.0).queued_s > foreign.queued_s
    load.observed(ONE, running=1, waiting=1, now=0.0)
    assert load.standing(ONE, 0.0).queued_requests == 1


def test_a_worker_that_is_gone_leaves_nothing_and_its_tickets_close_quietly() -> None:
    load = Load(Calibration())
    ticket = load.sent(ONE, 1000, 0, streams=True, now=0.0)
    load.first_token(ticket, 0.1)
    other = load.sent(ONE, 1000, 0, streams=True, now=0.1)
    load.drop(ONE)
    load.first_token(other, 0.2)
    load.done(other, 0.2)
    load.done(ticket, 0.2)
    assert (load.in_flight(ONE), load.queued_tokens(ONE)) == (0, 0)
    after = load.standing(ONE, 0.3)
    assert (after.running, after.context_tokens, after.queued_requests) == (0, 0, 0)


def test_a_request_given_up_in_the_queue_leaves_the_heads_progress_alone() -> None:
    load = Load(Calibration())
    head, other = (load.sent(ONE, 5000, 0, streams=True, now=0.0) for _ in range(2))
    load.done(other, 0.1)
    assert load.standing(ONE, 0.1).queued_s == head.prefill_s - 0.1
    load.done(head, 0.15)
    assert load.standing(ONE, 0.15).queued_s == 0.0


def test_a_guessed_prompt_takes_its_place_but_teaches_nothing() -> None:
    calibration = Calibration()
    load = Load(calibration)
    for second in range(100):
        ticket = load.sent(ONE, 5000, 0, streams=True, now=second, certain=False)
        assert load.standing(ONE, second).queued_tokens == 5000
        load.first_token(ticket, second + 0.9)
        load.done(ticket, second + 0.95, output_tokens=10)
    assert calibration.rates(ONE) == PRIOR


def test_an_unknown_worker_stands_idle() -> None:
    load = Load(Calibration())
    assert load.in_flight(OTHER) == load.queued_tokens(OTHER) == 0
    assert load.standing(OTHER, 0.0).last_sent == float("-inf")


class Books(RuleBasedStateMachine):
    """Any order of events keeps the books equal to a plain count."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.load = Load(Calibration())
        self.now = 0.0
        self.out: list[Ticket] = []

    @rule(target=tickets, tokens=st.integers(1, 3 * BATCHED_TOKENS), share=st.floats(0, 0.99), streams=st.booleans())
    def sends(self, tokens: int, share: float, streams: bool) -> Ticket:
        ticket = self.load.sent(ONE, tokens, int(tokens * share), streams=streams, now=self.now)
        self.out.append(ticket)
        return ticket

    @rule(ticket=tickets)
    def sees_a_first_token(self, ticket: Ticket) -> None:
        self.load.first_token(ticket, self.now)

    @rule(ticket=consumes(tickets), output=st.none() | st.integers(0, 100))
    def ends(self, ticket: Ticket, output: int | None) -> None:
        self.load.done(ticket, self.now, output_tokens=output)
        self.out.remove(ticket)

    @rule(seconds=st.floats(0, 10))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def agrees_with_a_plain_count(self) -> None:
        standing = self.load.standing(ONE, self.now)
        assert standing.in_flight == standing.queued_requests + standing.running == len(self.out)
        waiting = [each for each in self.out if each.first_token_at is None]
        assert standing.queued_tokens == sum(each.new_tokens for each in waiting)
        assert 0.0 <= standing.queued_s <= sum(each.prefill_s for each in waiting) + 1e-9
        decoding = [each for each in self.out if each.first_token_at is not None]
        assert standing.context_tokens == sum(each.prompt_tokens for each in decoding)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=6))
def test_a_later_request_never_sees_a_shorter_queue(sizes: list[int]) -> None:
    load, before = Load(Calibration()), 0.0
    for size in sizes:
        load.sent(ONE, size, 0, streams=True, now=0.0)
        queued = load.standing(ONE, 0.0).queued_s
        assert queued > before
        before = queued

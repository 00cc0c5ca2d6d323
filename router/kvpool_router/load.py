"""What each worker has been given and not yet done, as the proxies see it: exact for this router, and in step with it.

Requests of sibling routers are in the same books, milliseconds later; `in_flight` and `queued_tokens` leave them out.

    sent ──> queued: prefill not done ──first token──> decoding ──done──> gone

An engine prefills in the order of arrival, so the first token of one request also tells that those before it are
prefilled. That closes the books of requests that are not streamed, whose first token is never seen; until then they
count as prefilled when their prediction runs out.
"""

from dataclasses import dataclass
from typing import NamedTuple

from kvpool_router.calibration import Answer, Burst, Calibration, Rates
from kvpool_router.workers import WorkerId

_SAME_STEP = 0.2
"""A first token that comes within this share of its own prefill time after the one before was in the same step."""


@dataclass(slots=True)
class _Desk:
    """One worker's books."""

    queue: "dict[int, Ticket]"
    """Requests before their first token, in order of arrival, by identity."""
    queued_tokens: int = 0
    queued_s: float = 0.0
    decoding: int = 0
    context_tokens: int = 0
    head_since: float = 0.0
    """When the engine can have begun with the head of the queue."""
    head_in_step: bool = False
    """The head came while the engine was only decoding, and waits for the end of a step."""
    last_sent: float = float("-inf")
    foreign_running: int = 0
    foreign_waiting: int = 0
    ticked_at: float = 0.0
    running_area: float = 0.0
    context_area: float = 0.0
    prefill_clock: float = 0.0
    """Seconds spent on prefill so far, as seen between first tokens."""
    own: int = 0
    """Requests of this router, before and after their first token."""
    own_queued_tokens: int = 0
    unseen: int = 0
    """Requests in the queue that are not streamed."""
    burst: Burst | None = None
    """The newest observation, held back until it is known whether the next first token belongs to the same step."""
    burst_is_over: bool = False
    """It does not: the queue was empty in between."""

    def tick(self, now: float) -> None:
        elapsed = now - self.ticked_at
        self.running_area += elapsed * self.decoding
        self.context_area += elapsed * self.context_tokens
        self.ticked_at = now


@dataclass(slots=True, eq=False)
class Ticket:
    """One request at one worker, from `sent` until `done`."""

    worker: WorkerId
    prompt_tokens: int
    held_tokens: int
    """Prompt tokens that the worker was expected to have."""
    streams: bool
    certain: bool
    """Its tokens are counted and of one sequence, so that its timing teaches something."""
    own: bool
    """This router's, not a sibling's."""
    sent_at: float
    prefill_s: float
    ahead_s: float
    """Prefill of others that it was expected to wait for."""
    due_at: float
    desk: _Desk
    """The books that it is in, though the worker's name may have newer ones by now."""
    loaded_tokens: int = 0
    """Of the held tokens, those that the worker was expected to load from below its GPU."""
    first_token_at: float | None = None
    finished: bool = False
    prefill_clock: float = 0.0
    running_area: float = 0.0
    context_area: float = 0.0

    @property
    def new_tokens(self) -> int:
        return self.prompt_tokens - self.held_tokens


class Standing(NamedTuple):
    """One worker's load at one moment, as a strategy sees it."""

    queued_requests: int
    queued_tokens: int
    queued_s: float
    """Prefill seconds still ahead of a new request."""
    running: int
    context_tokens: int
    in_flight: int
    last_sent: float


_IDLE = Standing(0, 0, 0.0, 0, 0, 0, float("-inf"))


class Load:
    """Requests in flight per worker. No clock inside; O(1) a call."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._desks: dict[WorkerId, _Desk] = {}

    def rates(self, worker: WorkerId) -> Rates:
        return self._calibration.rates(worker)

    def load_s(self, worker: WorkerId, tokens: int) -> float:
        """Seconds until the worker has loaded so many tokens from below its GPU."""
        return self._calibration.load_s(worker, tokens) if tokens else 0.0

    def sent(
        self,
        worker: WorkerId,
        prompt_tokens: int,
        held_tokens: int,
        *,
        streams: bool,
        now: float,
        certain: bool = True,
        own: bool = True,
        loaded_tokens: int = 0,
    ) -> Ticket:
        """A request goes out. `held_tokens` of its `prompt_tokens` are expected in the worker's cache, and of those
        `loaded_tokens` below its GPU: what is loaded delays its own first token, and keeps nobody else waiting.

        `certain` says that the tokens were counted and are of one prompt and one answer; any other request takes its
        place in the queue but teaches nothing.
        """
        desk = self._desk(worker, now)
        rates = self._calibration.rates(worker)
        prefill_s = rates.prefill_s(prompt_tokens - held_tokens, held_tokens)
        ahead = self._ahead_s(desk, now)
        due_at = now + ahead + prefill_s + rates.overhead_s + self.load_s(worker, loaded_tokens)
        ticket = Ticket(worker, prompt_tokens, held_tokens, streams, certain, own, now, prefill_s, ahead, due_at, desk)
        ticket.loaded_tokens = loaded_tokens
        if not desk.queue:
            desk.burst_is_over = True
            desk.head_since = now
            desk.head_in_step = desk.decoding > 0
        desk.queue[id(ticket)] = ticket
        desk.unseen += not streams
        desk.queued_tokens += ticket.new_tokens
        desk.own += own
        desk.own_queued_tokens += ticket.new_tokens * own
        desk.queued_s += prefill_s
        desk.last_sent = now
        return ticket

    def first_token(self, ticket: Ticket, now: float) -> None:
        """The first chunk of a streamed answer came."""
        desk = self._current(ticket.desk, now)
        if id(ticket) not in desk.queue:
            return
        alone = len(desk.queue) == 1 and not desk.decoding and not ticket.ahead_s
        if ticket.loaded_tokens and ticket.certain and alone:
            elapsed_s = now - ticket.sent_at
            self._calibration.observe_load(ticket.worker, ticket.loaded_tokens, ticket.new_tokens, elapsed_s)
        covered = [ticket]
        for other in list(desk.queue.values()):
            if other is ticket:
                break
            if not other.streams:
                covered.append(other)
        self._observe(desk, covered, ticket, now)
        for each in covered:
            self._prefilled(desk, each, now)

    def done(self, ticket: Ticket, now: float, *, output_tokens: int | None = None) -> None:
        """The answer ended, in whichever way. Idempotent."""
        if ticket.finished:
            return
        ticket.finished = True
        desk = self._current(ticket.desk, now)
        desk.own -= ticket.own
        if ticket.certain and output_tokens and not ticket.streams and not ticket.loaded_tokens:
            self._observe_answer(desk, ticket, now, output_tokens)
        if id(ticket) in desk.queue:
            self._given_up(desk, ticket, now)
            return
        if desk.burst_is_over or not desk.queue:
            self._close_burst(ticket.worker, desk)
        if ticket.certain and output_tokens and ticket.streams:
            self._observe_gap(desk, ticket, now, output_tokens)
        desk.decoding -= 1
        desk.context_tokens -= ticket.prompt_tokens

    def observed(self, worker: WorkerId, running: int, waiting: int, now: float) -> None:
        """The engine's own counts: what exceeds our books came by ways that no router tells of."""
        desk = self._desk(worker, now)
        desk.foreign_running = max(0, running - desk.decoding - len(desk.queue))
        desk.foreign_waiting = max(0, waiting - len(desk.queue))

    def drop(self, worker: WorkerId) -> None:
        """The worker is gone, or its process is a new one; tickets still out close in the old books."""
        self._desks.pop(worker, None)
        self._calibration.forget(worker)

    def standing(self, worker: WorkerId, now: float) -> Standing:
        """How the worker stands now. Asked for every worker at every request, so the plain case touches no books."""
        desk = self._desks.get(worker)
        if desk is None:
            return _IDLE
        if desk.unseen:
            self._expire(desk, now)
        queued, foreign = len(desk.queue), desk.foreign_waiting
        ahead = self._ahead_s(desk, now) if queued else 0.0
        if foreign:
            ahead += foreign * (desk.queued_s / queued if queued else self._calibration.rates(worker).overhead_s)
        return Standing(
            queued + foreign,
            desk.queued_tokens,
            ahead,
            desk.decoding + desk.foreign_running,
            desk.context_tokens,
            queued + desk.decoding,
            desk.last_sent,
        )

    def in_flight(self, worker: WorkerId) -> int:
        """Requests that this router sent to the worker and whose answers have not ended."""
        desk = self._desks.get(worker)
        return 0 if desk is None else desk.own

    def queued_tokens(self, worker: WorkerId) -> int:
        """Uncached prompt tokens that this router sent to the worker and that are not yet prefilled."""
        desk = self._desks.get(worker)
        return 0 if desk is None else desk.own_queued_tokens

    def _desk(self, worker: WorkerId, now: float) -> _Desk:
        desk = self._desks.get(worker)
        if desk is None:
            desk = self._desks[worker] = _Desk({}, ticked_at=now)
        return self._current(desk, now)

    def _current(self, desk: _Desk, now: float) -> _Desk:
        desk.tick(now)
        if desk.unseen:
            self._expire(desk, now)
        return desk

    def _expire(self, desk: _Desk, now: float) -> None:
        """Takes heads whose first token is never seen for prefilled once their prediction has run out."""
        while desk.queue:
            head = next(iter(desk.queue.values()))
            if head.streams or head.due_at > now:
                return
            desk.prefill_clock += head.prefill_s
            self._prefilled(desk, head, now)

    @staticmethod
    def _ahead_s(desk: _Desk, now: float) -> float:
        """Queued work less what the head can have got done since it began."""
        if not desk.queue:
            return 0.0
        head = next(iter(desk.queue.values()))
        return max(0.0, desk.queued_s - min(now - desk.head_since, head.prefill_s))

    def _given_up(self, desk: _Desk, ticket: Ticket, now: float) -> None:
        """Ends a request before its first token; the engine goes on with the head, unless it was the head."""
        was_head = next(iter(desk.queue)) == id(ticket)
        began = desk.head_since
        del desk.queue[id(ticket)]
        self._off_queue(desk, ticket, now)
        if not was_head:
            desk.head_since = began

    def _prefilled(self, desk: _Desk, ticket: Ticket, now: float) -> None:
        del desk.queue[id(ticket)]
        self._off_queue(desk, ticket, now)
        desk.decoding += 1
        desk.context_tokens += ticket.prompt_tokens
        ticket.first_token_at = now
        ticket.prefill_clock = desk.prefill_clock
        ticket.running_area, ticket.context_area = desk.running_area, desk.context_area

    @staticmethod
    def _off_queue(desk: _Desk, ticket: Ticket, now: float) -> None:
        desk.unseen -= not ticket.streams
        desk.queued_tokens -= ticket.new_tokens
        desk.own_queued_tokens -= ticket.new_tokens * ticket.own
        desk.queued_s = max(0.0, desk.queued_s - ticket.prefill_s) if desk.queue else 0.0
        desk.head_since = now
        desk.head_in_step = False

    def _observe(self, desk: _Desk, covered: list[Ticket], ticket: Ticket, now: float) -> None:
        elapsed = now - desk.head_since
        desk.prefill_clock += elapsed
        if not all(each.certain and not each.loaded_tokens for each in covered):
            desk.burst = None
            return
        new = sum(each.new_tokens for each in covered)
        attention = sum(each.new_tokens * (each.held_tokens + each.new_tokens * 0.5) for each in covered)
        held = desk.burst
        if (
            held is not None
            and not desk.burst_is_over
            and elapsed < _SAME_STEP * sum(each.prefill_s for each in covered)
        ):
            desk.burst = Burst(
                held.elapsed_s + elapsed,
                held.requests + len(covered),
                held.new_tokens + new,
                held.attention + attention,
                held.running,
                held.context_tokens,
                held.waited_for_step,
            )
            return
        self._close_burst(ticket.worker, desk)
        desk.burst = Burst(elapsed, len(covered), new, attention, desk.decoding, desk.context_tokens, desk.head_in_step)

    def _close_burst(self, worker: WorkerId, desk: _Desk) -> None:
        if desk.burst is not None:
            self._calibration.observe_burst(worker, desk.burst)
            desk.burst = None
        desk.burst_is_over = False

    def _observe_gap(self, desk: _Desk, ticket: Ticket, now: float, output_tokens: int) -> None:
        """Decode speed from one whole stream: its length less the prefill seconds that fell into it."""
        whole, prefilling_s, running, context = _since_first_token(desk, ticket, now)
        decoding_s = whole - prefilling_s
        if output_tokens < 2 or whole <= 0.0 or decoding_s < 0.2 * whole:
            return
        self._calibration.observe_gap(ticket.worker, decoding_s / (output_tokens - 1), running, context)

    def _observe_answer(self, desk: _Desk, ticket: Ticket, now: float, output_tokens: int) -> None:
        """Both speeds from one answer that was not streamed, whose first token is only believed to have come."""
        new, held = ticket.new_tokens, ticket.held_tokens
        _, prefilling_s, running, context = _since_first_token(desk, ticket, now)
        others_s = ticket.ahead_s + prefilling_s
        answer = Answer(
            now - ticket.sent_at, new, new * (held + new * 0.5), others_s, output_tokens - 1, running, context
        )
        self._calibration.observe_answer(ticket.worker, answer)


def _since_first_token(desk: _Desk, ticket: Ticket, now: float) -> tuple[float, float, float, float]:
    """Seconds, those of them that went to prefill, and what decoded on average: requests and context tokens."""
    whole = 0.0 if ticket.first_token_at is None else now - ticket.first_token_at
    if whole <= 0.0:
        return 0.0, 0.0, desk.decoding + 1.0, float(desk.context_tokens + ticket.prompt_tokens)
    running, context = desk.running_area - ticket.running_area, desk.context_area - ticket.context_area
    return whole, desk.prefill_clock - ticket.prefill_clock, running / whole, context / whole

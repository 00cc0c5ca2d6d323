"""Why requests went where they went, and how it turned out: a ring of the last ones, and sums over five minutes."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp, log
from typing import Protocol

from kvpool_api.spec import Strategy as StrategyName
from kvpool_api.wire import CandidateCost, Decision, UntokenizedCause, WindowFacts

from kvpool_router.requests.usage import Usage
from kvpool_router.score.protocol import Choice, WorkerView
from kvpool_router.workers import WorkerId

WINDOW_S = 300.0
_SLICE_S = 5.0
_TTFT_STEP = log(1.04)
_LEAST_TTFT_S = 1e-5
IN_FLIGHT = "in flight"
OK = "ok"
CLIENT_GONE = "client gone"


@dataclass(slots=True, eq=False)
class Record:
    """One request, filled in as it goes. Holds no prompt content."""

    request_id: str
    arrived_at: float
    """On the router's monotonic clock."""
    wall_time: float
    path: str
    prompt_tokens: int | None
    untokenized: UntokenizedCause | None = None
    worker: WorkerId | None = None
    reason: str = ""
    pool: Sequence[WorkerView] = ()
    choice: Choice | None = None
    attempts: int = 0
    predicted_cached_tokens: int | None = None
    usage: Usage | None = None
    ttft_s: float | None = None
    outcome: str = IN_FLIGHT


class Observer(Protocol):
    """Who counts what the door does (metrics). Called on the request path: cheap, and never raises."""

    def placed(self, record: Record, seconds: float) -> None:
        """A worker was chosen, in so many seconds of tokenizing, lookup and scoring."""

    def retried(self, worker: WorkerId, why: str) -> None:
        """A worker failed before its first byte."""

    def opaque(self, path: str, cause: UntokenizedCause) -> None:
        """A prompt could not be tokenized and is placed by load."""

    def finished(self, record: Record) -> None:
        """The answer ended; outcome, usage and TTFT are as far known as they will be."""

    def refused(self, path: str, status: int) -> None:
        """The router answered with an error of its own."""


@dataclass(slots=True)
class _Slice:
    """A few seconds of finished requests: sums, and their TTFTs counted by powers of a small step.

    Five minutes of single requests would be megabytes at some hundred requests a second.
    """

    begun_at: float
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    errors: int = 0
    waits: Counter[int] = field(default_factory=Counter)
    untokenized: Counter[UntokenizedCause] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        self.requests += 1
        self.errors += _failed(record.outcome)
        if record.untokenized is not None:
            self.untokenized[record.untokenized] += 1
        if record.ttft_s is not None:
            self.waits[round(log(max(record.ttft_s, _LEAST_TTFT_S)) / _TTFT_STEP)] += 1
        usage = record.usage
        if usage is not None and usage.cached_tokens is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.cached_tokens += usage.cached_tokens
            self.predicted_tokens += record.predicted_cached_tokens or 0


@dataclass(slots=True)
class DecisionLog:
    """The last decisions of one router."""

    strategy: StrategyName
    kept: int = 1000
    _ring: deque[Record] = field(default_factory=deque)
    _slices: deque[_Slice] = field(default_factory=deque)
    _unplaced: set[int] = field(default_factory=set)

    @property
    def unplaced(self) -> int:
        """Requests that have begun and that no worker has yet: their prompts are being tokenized."""
        return len(self._unplaced)

    def begin(self, record: Record) -> None:
        self._unplaced.add(id(record))
        self._ring.append(record)
        if len(self._ring) > self.kept:
            self._ring.popleft()

    def placed(self, record: Record) -> None:
        """A worker has the request."""
        self._unplaced.discard(id(record))

    def finish(self, record: Record, now: float) -> None:
        """Takes the outcome into the window. What the engine did not report counts on neither side of the hit rate."""
        self._unplaced.discard(id(record))
        if not self._slices or now >= self._slices[-1].begun_at + _SLICE_S:
            self._expire(now)
            self._slices.append(_Slice(now))
        self._slices[-1].add(record)

    def window(self, now: float) -> WindowFacts:
        """Sums over the last five minutes of finished requests; TTFTs within 2 %."""
        self._expire(now)
        slices = self._slices
        waits = sum((each.waits for each in slices), Counter[int]())
        return WindowFacts(
            requests=sum(each.requests for each in slices),
            prompt_tokens=sum(each.prompt_tokens for each in slices),
            cached_tokens=sum(each.cached_tokens for each in slices),
            predicted_tokens=sum(each.predicted_tokens for each in slices),
            errors=sum(each.errors for each in slices),
            untokenized=dict(sum((each.untokenized for each in slices), Counter[UntokenizedCause]())),
            ttft_p50_ms=_quantile_ms(waits, 0.5),
            ttft_p90_ms=_quantile_ms(waits, 0.9),
        )

    def latest(self, limit: int) -> list[Decision]:
        """Newest first."""
        newest = list(self._ring)[-limit:] if limit > 0 else []
        return [self._told(record) for record in reversed(newest)]

    def _expire(self, now: float) -> None:
        while self._slices and self._slices[0].begun_at < now - WINDOW_S:
            self._slices.popleft()

    def _told(self, record: Record) -> Decision:
        return Decision(
            request_id=record.request_id,
            time=datetime.fromtimestamp(record.wall_time, UTC).isoformat(timespec="milliseconds"),
            path=record.path,
            strategy=self.strategy,
            prompt_tokens=record.prompt_tokens,
            untokenized=record.untokenized,
            pod=None if record.worker is None else record.worker.pod,
            dp_rank=None if record.worker is None else record.worker.dp_rank,
            reason=record.reason,
            candidates=_candidates(record),
            predicted_cached_tokens=record.predicted_cached_tokens,
            cached_tokens=None if record.usage is None else record.usage.cached_tokens,
            ttft_ms=None if record.ttft_s is None else round(record.ttft_s * 1e3, 2),
            attempts=record.attempts,
            outcome=record.outcome,
        )


def _candidates(record: Record) -> list[CandidateCost]:
    costs = record.choice.costs if record.choice is not None else ()
    return [
        CandidateCost(
            pod=view.id.pod,
            dp_rank=view.id.dp_rank,
            cost_s=round(cost.total_s, 6),
            parts_s={name: round(part, 6) for name, part in cost.parts().items()},
            cached_tokens=view.cached_tokens,
            predicted_tokens=view.reachable_tokens,
        )
        for view, cost in zip(record.pool, costs, strict=False)
    ]


def _quantile_ms(waits: Counter[int], share: float) -> float | None:
    left = int(share * waits.total())
    for power in sorted(waits):
        left -= waits[power]
        if left < 0:
            return round(exp(power * _TTFT_STEP) * 1e3, 2)
    return None


def _failed(outcome: str) -> bool:
    """Whether the pool is to blame: not the client that left, nor an engine's 4xx."""
    return outcome not in (OK, CLIENT_GONE) and not outcome.startswith("4")

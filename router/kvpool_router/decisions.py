"""Why requests went where they went, and how it turned out: a ring of the last ones, and sums over five minutes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from kvpool_api.spec import Strategy as StrategyName
from kvpool_api.wire import CandidateCost, Decision, WindowFacts

from kvpool_router.requests.usage import Usage
from kvpool_router.score.protocol import Choice, WorkerView
from kvpool_router.workers import WorkerId

WINDOW_S = 300.0
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

    def opaque(self, path: str, why: str) -> None:
        """A prompt could not be tokenized and is placed by load."""

    def finished(self, record: Record) -> None:
        """The answer ended; outcome, usage and TTFT are as far known as they will be."""

    def refused(self, path: str, status: int) -> None:
        """The router answered with an error of its own."""


@dataclass(slots=True)
class _Sums:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    predicted_tokens: int = 0
    errors: int = 0

    def add(self, entry: "_Entry", sign: int) -> None:
        self.requests += sign
        self.errors += sign * entry.failed
        self.prompt_tokens += sign * entry.prompt_tokens
        self.cached_tokens += sign * entry.cached_tokens
        self.predicted_tokens += sign * entry.predicted_tokens


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    prompt_tokens: int
    cached_tokens: int
    predicted_tokens: int
    ttft_s: float | None
    failed: bool


@dataclass(slots=True)
class DecisionLog:
    """The last decisions of one router."""

    strategy: StrategyName
    kept: int = 1000
    _ring: deque[Record] = field(default_factory=deque)
    _window: deque[_Entry] = field(default_factory=deque)
    _sums: _Sums = field(default_factory=_Sums)

    def begin(self, record: Record) -> None:
        self._ring.append(record)
        if len(self._ring) > self.kept:
            self._ring.popleft()

    def finish(self, record: Record, now: float) -> None:
        """Takes the outcome into the window. What the engine did not report counts on neither side of the hit rate."""
        usage = record.usage
        known = usage is not None and usage.cached_tokens is not None
        entry = _Entry(
            now,
            usage.prompt_tokens if usage is not None and known else 0,
            (usage.cached_tokens or 0) if usage is not None else 0,
            (record.predicted_cached_tokens or 0) if known else 0,
            record.ttft_s,
            _failed(record.outcome),
        )
        self._window.append(entry)
        self._sums.add(entry, 1)
        self._expire(now)

    def window(self, now: float) -> WindowFacts:
        """Sums over the last five minutes of finished requests."""
        self._expire(now)
        sums = self._sums
        waits = sorted(entry.ttft_s for entry in self._window if entry.ttft_s is not None)
        return WindowFacts(
            requests=sums.requests,
            prompt_tokens=sums.prompt_tokens,
            cached_tokens=sums.cached_tokens,
            predicted_tokens=sums.predicted_tokens,
            errors=sums.errors,
            ttft_p50_ms=_quantile_ms(waits, 0.5),
            ttft_p90_ms=_quantile_ms(waits, 0.9),
        )

    def latest(self, limit: int) -> list[Decision]:
        """Newest first."""
        newest = list(self._ring)[-limit:] if limit > 0 else []
        return [self._told(record) for record in reversed(newest)]

    def _expire(self, now: float) -> None:
        while self._window and self._window[0].at < now - WINDOW_S:
            self._sums.add(self._window.popleft(), -1)

    def _told(self, record: Record) -> Decision:
        return Decision(
            request_id=record.request_id,
            time=datetime.fromtimestamp(record.wall_time, UTC).isoformat(timespec="milliseconds"),
            path=record.path,
            strategy=self.strategy,
            prompt_tokens=record.prompt_tokens,
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
            predicted_tokens=view.predicted_tokens,
        )
        for view, cost in zip(record.pool, costs, strict=False)
    ]


def _quantile_ms(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 2) if ordered else None


def _failed(outcome: str) -> bool:
    """Whether the pool is to blame: not the client that left, nor an engine's 4xx."""
    return outcome not in (OK, CLIENT_GONE) and not outcome.startswith("4")

"""Placement in closed loop with what it learns: simple engines, real strategy, books and calibration, no cache."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import exp
from random import Random

from kvpool_router.calibration import Calibration, Rates
from kvpool_router.load import Load, Ticket
from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.protocol import RequestView, WorkerView
from kvpool_router.workers import WorkerId

Slowness = Callable[[int], float]
"""How many times its normal time an engine takes for the n-th request of the pool."""


def steady(slowness: float) -> Slowness:
    return lambda _: slowness


@dataclass(slots=True)
class _Stream:
    ticket: Ticket
    engine: int
    tokens: int
    decode_s: float
    ends_at: float = float("inf")


@dataclass
class ClosedLoop:
    """Cold requests, open loop at `per_s` over engines that prefill one at a time and decode in between.

    `noise` is the spread of the logarithm of each prefill's and each answer's time.
    """

    engines: Sequence[Slowness]
    truth: Rates
    per_s: float
    noise: float
    seed: int
    streams: bool = True
    first_slowness: Sequence[float] = ()
    """Of each engine's very first prefill: what compiles or warms up."""
    placed: list[int] = field(default_factory=list)
    """Which engine took each request."""

    def __post_init__(self) -> None:
        self._draw = Random(self.seed)
        self.load = Load(Calibration())
        self.workers = [WorkerId(f"e{n}", 0) for n in range(len(self.engines))]
        self._strategy = CacheAware(self.seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._free_at = [0.0] * len(self.engines)
        self._streams: list[list[_Stream]] = [[] for _ in self.engines]
        self._first = dict(enumerate(self.first_slowness))
        self._now = 0.0

    def serve(self, requests: int) -> "ClosedLoop":
        """So many requests more, each from its arrival to its end."""
        arrives = self._now
        for _ in range(requests):
            arrives += self._draw.expovariate(self.per_s)
            self._at(arrives, self._arrive)
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event(self._now)
        return self

    def share(self, engine: int, *, since: int = 0) -> float:
        """Of the requests from `since` on, how many went to the engine."""
        return self.placed[since:].count(engine) / len(self.placed[since:])

    def _at(self, time: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def _luck(self) -> float:
        return exp(self._draw.gauss(0.0, self.noise))

    def _arrive(self, now: float) -> None:
        size, tokens = self._draw.randrange(300, 4000), self._draw.randrange(8, 64)
        pool = [
            WorkerView(each, self.load.standing(each, now), self.load.rates(each), 0, 0, 0, 0, 0.0)
            for each in self.workers
        ]
        engine = self._strategy(RequestView(size), pool, now).position
        slowness = self.engines[engine](len(self.placed))
        self.placed.append(engine)
        ticket = self.load.sent(self.workers[engine], size, 0, streams=self.streams, now=now)
        truth, running = self.truth, len(self._streams[engine]) + 1
        prefill_s = (
            (truth.overhead_s + truth.prefill_s(size, 0)) * slowness * self._luck() * self._first.pop(engine, 1.0)
        )
        step_s = (truth.step_s + truth.decode_load_s(running, running * size)) * slowness
        stream = _Stream(ticket, engine, tokens, step_s * (tokens - 1) * self._luck())
        begins = max(now, self._free_at[engine])
        self._free_at[engine] = begins + prefill_s
        for other in self._streams[engine]:
            other.ends_at += prefill_s
        self._at(begins + prefill_s, lambda then: self._first_token(stream, then))

    def _first_token(self, stream: _Stream, now: float) -> None:
        if self.streams:
            self.load.first_token(stream.ticket, now)
        self._streams[stream.engine].append(stream)
        stream.ends_at = now + stream.decode_s
        self._at(stream.ends_at, lambda then: self._end(stream, then))

    def _end(self, stream: _Stream, now: float) -> None:
        if stream.ends_at > now:
            self._at(stream.ends_at, lambda then: self._end(stream, then))
            return
        self._streams[stream.engine].remove(stream)
        self.load.done(stream.ticket, now, output_tokens=stream.tokens)

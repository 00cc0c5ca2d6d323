"""Follows one engine's stream of batches through gaps, restarts and lost connections."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from kvpool_router.events.feed import Feed, ReplayUnavailable, Sink
from kvpool_router.events.sequence import Answer, Frame, Verdict, Watermarks

MAX_ASKS = 64
"""Replays asked in one go before an engine that contradicts itself is left alone for a while."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Times in seconds."""

    first_check_s: float = 2.0
    """Silence after which the end of the stream is asked for: a lost last batch shows only so."""
    next_check_s: float = 30.0
    """The same for silence that lasts."""
    silence_s: float = 3.0
    """An engine answers a replay between two live batches; one that is silent for longer is taken to be hung."""
    first_retry_s: float = 2.0
    """Wait after a replay that could not be had; doubles each time."""
    longest_retry_s: float = 60.0
    reconnect_s: float = 1.0
    """Pause after a peer that closed the connection before it had shaken hands."""
    conceal_s: float = 10.0
    """After a lost connection predictions too have no credit for so long; then those of later prompts have."""


@dataclass(slots=True)
class StreamFacts:
    """What following has met with so far, for people and for the state of the worker."""

    caught_up: bool = False
    """A replay of this connection has ended, whatever came of it."""
    replaying: bool = False
    replay_trouble: str | None = None
    gaps: int = 0
    restarts: int = 0


class Follower:
    """Applies each batch of a stream once and in order, as far as the engine still has them.

    Live batches wait in the socket while a replay runs: the socket's own bound is the bound on memory, and what it
    refuses shows as the next gap. Nothing here knows sockets, so the same code runs against a simulated engine.
    """

    def __init__(self, sink: Sink, clock: Callable[[], float], rhythm: Rhythm) -> None:
        self.facts = StreamFacts()
        self.marks = Watermarks()
        self._sink = sink
        self._clock = clock
        self._rhythm = rhythm
        self._recognised = False
        """A batch of this connection's process is known to be the last applied, or nothing is applied."""
        self._history_missed = False
        """The stream was entered at a live batch; the engine may still hold what was before."""
        self._torn = False
        """A batch failed half way, and no event may be applied twice: the map counts copies of a block."""
        self._replayed = 0
        self._retry_at = 0.0
        self._retry_s = rhythm.first_retry_s
        self._quiet = False

    async def follow(self, feed: Feed) -> None:
        """Runs for ever on one connection; cancelled when that is lost. A later call goes on with what is applied."""
        if self._torn:
            self.forget()
        self.marks.connected()
        self.facts.caught_up = False
        self._recognised = self.marks.applied < 0
        self._retry_at = 0.0
        self._retry_s = self._rhythm.first_retry_s
        await self._catch_up(feed)
        self.facts.caught_up = True
        while True:
            await self._next(feed)

    def forget(self) -> None:
        """Drops the map of this worker; the stream begins again."""
        self._sink.drop()
        self._begin_anew()

    async def _doubt(self) -> None:
        """Batches are missing for good: the stream begins again at the next one, and the map doubts what it knew."""
        knew = self.marks.applied >= 0
        self._begin_anew()
        if knew:
            await self._sink.doubt()

    def _begin_anew(self) -> None:
        self.marks.forget()
        self._recognised = True
        self._history_missed = False
        self._torn = False

    def adopt(self, first: int, applied: int, last_digest: bytes) -> None:
        """The map holds what another follower applied. Credit waits until the engine has confirmed the last batch."""
        self.marks.resume(first, applied, last_digest)
        self._sink.suspend()

    @property
    def between_batches(self) -> bool:
        """Everything up to `marks.applied` is in the map, and nothing of the next batch."""
        return not self._torn

    async def _next(self, feed: Feed) -> None:
        if self._history_missed and self._may_ask():
            await self._catch_up(feed)
        frame = await feed.live(self._rhythm.next_check_s if self._quiet else self._rhythm.first_check_s)
        self._quiet = frame is None
        if frame is not None:
            await self._accept(feed, frame)
        elif self._may_ask():
            await self._check_end(feed)

    async def _check_end(self, feed: Feed) -> None:
        applied = self.marks.applied
        await self._catch_up(feed)
        if self.marks.applied != applied:
            self.facts.gaps += 1

    async def _accept(self, feed: Feed, frame: Frame) -> None:
        verdict = self.marks.live(frame)
        if verdict is Verdict.GAP:
            self.facts.gaps += 1
        elif verdict is Verdict.RESTART:
            self._restart()
        if verdict in (Verdict.GAP, Verdict.RESTART) and self._may_ask():
            await self._catch_up(feed)
            verdict = self.marks.judge(frame)
        if verdict is Verdict.SKIP:
            await asyncio.sleep(0)
            return
        if verdict is Verdict.GAP:
            await self._doubt()
            self._history_missed = True
        elif verdict is Verdict.RESTART:
            self.forget()
            self._history_missed = True
        await self._apply(frame, live=True)

    async def _apply(self, frame: Frame, *, live: bool) -> None:
        self._torn = True
        try:
            await self._sink.apply(frame, live=live)
        except asyncio.CancelledError:
            self._applied(frame)
            raise
        self._applied(frame)

    def _applied(self, frame: Frame) -> None:
        self._torn = False
        self.marks.advance(frame)

    def _restart(self) -> None:
        self.facts.restarts += 1
        self.forget()

    def _may_ask(self) -> bool:
        return self._clock() >= self._retry_at

    async def _catch_up(self, feed: Feed) -> None:
        """Replays to the engine's last batch, or notes why that cannot be had and when to try again."""
        self.facts.replaying = True
        try:
            await self._ask_until_settled(feed, fresh=self._history_missed)
        except ReplayUnavailable as trouble:
            await self._postpone(trouble)
        else:
            self.facts.replay_trouble = None
            self._history_missed = False
            self._retry_s = self._rhythm.first_retry_s
        self.facts.replaying = False
        self._sink.resume()

    async def _postpone(self, trouble: ReplayUnavailable) -> None:
        """An engine that does not answer may do so later, to nobody; one that is not reached has nothing to answer."""
        self.facts.replay_trouble = str(trouble)
        self._retry_at = self._clock() + self._retry_s
        if not trouble.unheard:
            self._retry_s = min(2 * self._retry_s, self._rhythm.longest_retry_s)
        if not self._recognised:
            await self._doubt()
            self._history_missed = True

    async def _ask_until_settled(self, feed: Feed, *, fresh: bool) -> None:
        """Asks again where an answer was cut or had a hole (the engine's socket drops what it cannot send).

        A hole that is there again in the next answer is a hole in the engine's buffer: what was before it is given up.
        """
        accept_holes = False
        for _ in range(MAX_ASKS):
            before = self._replayed
            try:
                verdict = await self._read_answer(feed, fresh=fresh, accept_holes=accept_holes)
            except ReplayUnavailable:
                if self._replayed == before:
                    raise
                verdict = Verdict.GAP
            if verdict is Verdict.SKIP:
                return
            if verdict is Verdict.RESTART:
                self._restart()
            fresh = False
            accept_holes = self._replayed == before
        raise ReplayUnavailable("replays contradict each other")

    async def _read_answer(self, feed: Feed, *, fresh: bool, accept_holes: bool) -> Verdict:
        """SKIP: read to its end. GAP: ask again. RESTART: not our stream.

        `fresh` asks for the whole history although some is applied; the first batch that comes replaces it.
        """
        answer = Answer(self.marks)
        async with aclosing(feed.replay(0 if fresh else answer.asked_from)) as frames:
            async for frame in frames:
                if fresh:
                    await self._replace(frame)
                    fresh = False
                verdict = answer.batch(frame)
                if verdict is Verdict.LOST or (verdict is Verdict.GAP and accept_holes):
                    await self._doubt()
                    verdict = Verdict.APPLY
                if verdict in (Verdict.GAP, Verdict.RESTART):
                    return verdict
                await self._take(frame, verdict)
        return Verdict.SKIP if self._recognised else answer.end()

    async def _replace(self, first: Frame) -> None:
        """A history that begins with `first` takes the place of what is known of another one."""
        if first.sequence == 0:
            self.forget()
        else:
            await self._doubt()

    async def _take(self, frame: Frame, verdict: Verdict) -> None:
        """Credit waits for the end of a history that is read from its start, and comes back with a recognised batch."""
        self._recognised = True
        if verdict is Verdict.SKIP:
            self._sink.resume()
            return
        if self.marks.applied < 0:
            self._sink.suspend()
        await self._apply(frame, live=False)
        self._replayed += 1

"""An event plane on a map of its own, and what a router would say of one worker."""

import time
from dataclasses import dataclass, field, replace

import msgspec
import zmq.asyncio
from event_publisher import BLOCK_TOKENS, Event, EventPublisher, tokens_of
from kvpool_api.wire import EventState
from kvpool_router.events.follower import Rhythm
from kvpool_router.events.plane import EventPlane, EventStanding
from kvpool_router.events.wire import decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import Worker, WorkerId

ENGINE = WorkerId("engine-0", 0)
TEXT = Namespace(None, None)
QUICK = Rhythm(
    first_check_s=0.2,
    next_check_s=0.5,
    silence_s=0.2,
    first_retry_s=0.1,
    longest_retry_s=0.2,
    reconnect_s=0.05,
    conceal_s=0.5,
)


@dataclass
class Heard:
    """Keeps what an observer of events is told."""

    lags_s: list[float] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)

    def applied(self, lag_s: float) -> None:
        self.lags_s.append(lag_s)

    def skipped(self, what: str) -> None:
        self.skips.append(str(what))


class EventWorld:
    """A plane, its map, and what a router would say of one worker."""

    def __init__(self, context: zmq.asyncio.Context, rhythm: Rhythm = QUICK) -> None:
        self.heard = Heard()
        self.map = CacheMap(BLOCK_TOKENS, 60.0, None)
        self.plane = EventPlane(
            self.map,
            context,
            monotonic=time.monotonic,
            wall_clock=lambda: 1000.25,
            rhythm=rhythm,
            observer=self.heard,
        )

    def follow(self, *workers: Worker) -> None:
        self.plane.follow(workers)

    def put(self, *events: Event) -> None:
        """Into the map without a stream, as from a snapshot."""
        self.map.apply(ENGINE, decode(msgspec.msgpack.encode([0.0, list(events), 0])).events)

    def cached(self, block: int, *, blocks: int = 1, worker: WorkerId = ENGINE) -> int:
        held = self.map.match(tokens_of(block, blocks=blocks), TEXT, now=0.0).get(worker)
        return held.cached_tokens if held else 0

    def predicted(self, block: int) -> int:
        held = self.map.match(tokens_of(block), TEXT, now=0.0).get(ENGINE)
        return held.predicted_tokens if held else 0

    @property
    def state(self) -> EventState:
        return self._standing.state

    @property
    def reason(self) -> str:
        return self._standing.reason

    @property
    def synced(self) -> bool:
        return self._standing.synced

    @property
    def last(self) -> int | None:
        return self._standing.last_sequence

    @property
    def _standing(self) -> EventStanding:
        standing = self.plane.standing(ENGINE)
        assert standing is not None
        return standing


def engine(publisher: EventPublisher, **changes: object) -> Worker:
    told = Worker(
        id=ENGINE,
        pod_uid="uid-1",
        restart_count=0,
        url="http://127.0.0.1:1",
        events=publisher.events,
        replay=publisher.replay,
        ready=True,
        draining=False,
        terminating=False,
    )
    return replace(told, **changes)

"""How far the map of one worker can be trusted, and why, from what its stream has met with. Pure."""

from dataclasses import dataclass
from enum import IntEnum

from kvpool_api.wire import EventState


class Lack(IntEnum):
    """What the map may not know since then, the worst last."""

    NOTHING = 0
    STORED = 1
    UNKNOWN = 2
    ILLEGIBLE = 3
    REMOVED = 4
    BATCHES = 5
    """Whole batches are missing for good."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one worker's events."""

    events: str | None
    """Address of the stream; None where the pod declares none."""
    miswired: str | None
    """Why its events are not the worker's own, by the engine's account; None where nothing speaks against them."""
    connection_trouble: str | None
    """Why there is no connection; None while there is one."""
    caught_up: bool
    """A replay of this connection has ended, whatever came of it."""
    replaying: bool
    replay_trouble: str | None
    first: int
    """Lowest applied sequence."""
    applied: int
    """Highest applied sequence; -1 for none."""
    lack: Lack
    """What was found to be missing since the map was last known in full."""
    cleared: bool
    """The engine has emptied its cache since `first` and since the last lack."""
    turned_over: int
    """Tokens stored since something was last found to be missing."""
    cache_tokens: int | None


def judge(seen: Evidence) -> tuple[EventState, str]:
    """The state, and one sentence that says why."""
    if seen.events is None:
        return EventState.APPROXIMATE, "The pod declares no kv-events port, so only predictions count."
    if seen.miswired is not None:
        return EventState.APPROXIMATE, seen.miswired
    if seen.connection_trouble is not None:
        return EventState.APPROXIMATE, seen.connection_trouble
    if seen.replaying or not seen.caught_up:
        return EventState.DEGRADED, "A replay of earlier events is under way."
    if (missing := _missing(seen)) is not None and not _outlived(seen):
        return EventState.DEGRADED, missing
    return EventState.EXACT, "Every event since the engine started or last emptied its cache is applied."


def _missing(seen: Evidence) -> str | None:
    """Figures would make another sentence of it at every look, so there are none."""
    if seen.replay_trouble is not None and (seen.first > 0 or seen.applied < 0):
        return f"Blocks stored before this router began to listen are unknown: {seen.replay_trouble}."
    if seen.lack is not Lack.NOTHING:
        return _LACKS[seen.lack]
    if seen.first > 0:
        return "Blocks stored before the engine's buffer begins are unknown until the cache has turned over."
    return None


def _outlived(seen: Evidence) -> bool:
    """By its least-recent order of eviction, a cache filled anew holds nothing older that nobody has named since."""
    return seen.cleared or (seen.cache_tokens is not None and seen.turned_over >= seen.cache_tokens)


_LACKS = {
    Lack.STORED: "Events of stored blocks could not be read; those have no credit until the cache has turned over.",
    Lack.UNKNOWN: "Events of a kind that this router does not know were skipped; the engine may be newer than it.",
    Lack.ILLEGIBLE: "Events could not be read at all; older blocks count again as the engine names them.",
    Lack.REMOVED: "Events of removed blocks could not be read; older blocks count again as the engine names them.",
    Lack.BATCHES: "Events were lost for good; older blocks count again as the engine names them.",
}

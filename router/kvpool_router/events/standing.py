"""How far the map of one worker can be trusted, and why, from what its stream has met with. Pure."""

from dataclasses import dataclass

from kvpool_api.wire import EventState


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
    unreadable: int
    """Events skipped since the map was last known in full."""
    cleared: bool
    """The engine has emptied its cache since `first`."""
    turned_over: int
    """Tokens stored since `first`."""
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
        far = "nothing is applied yet" if seen.applied < 0 else f"applied up to batch {seen.applied}"
        return EventState.DEGRADED, f"A replay is under way, {far}."
    if not _whole(seen):
        return EventState.DEGRADED, _missing(seen)
    if seen.unreadable:
        return EventState.DEGRADED, f"{seen.unreadable} events could not be read and were skipped."
    return EventState.EXACT, "Every event since the engine started or last emptied its cache is applied."


def _whole(seen: Evidence) -> bool:
    """By its least-recent order of eviction, a cache that has been filled once anew holds nothing of before."""
    history_unknown = seen.first > 0 or (seen.applied < 0 and seen.replay_trouble is not None)
    filled = seen.cache_tokens is not None and seen.turned_over >= seen.cache_tokens
    return not history_unknown or seen.cleared or filled


def _missing(seen: Evidence) -> str:
    if seen.replay_trouble is not None:
        since = "so far" if seen.applied < 0 else f"before batch {seen.first}"
        return f"Blocks stored {since} are unknown: {seen.replay_trouble}."
    turned = f"{seen.turned_over} of {seen.cache_tokens or 'an unknown number of'} tokens"
    return (
        f"The engine's buffer begins at batch {seen.first}; older blocks are unknown until they turn over ({turned})."
    )

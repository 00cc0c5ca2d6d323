"""Faults on request: `POST /sim/fault {"kind": …}`."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvpool_sim.core.events import BlockRemoved, BlockStored, KvEvent
from kvpool_sim.driver import Driver
from kvpool_sim.publisher import Publisher
from kvpool_sim.refusal import Refusal

Fault = Callable[[Sequence[Driver], Mapping[str, Any]], None]


def _publishers(drivers: Sequence[Driver]) -> Iterator[Publisher]:
    return (driver.publisher for driver in drivers if driver.publisher is not None)


def _crash(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    for each in _publishers(drivers):
        each.hung = bool(body.get("on", True))


def _drop(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    for each in _publishers(drivers):
        each.dropping = int(body.get("batches", 1))


def _restart_sequence(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    for each in _publishers(drivers):
        each.restart_sequence()


def _garbage(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    for each in _publishers(drivers):
        each.publish_raw(bytes.fromhex(body.get("payload", "93c1")))


def _flush_silently(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    for each in drivers:
        if not each.reset_cache():
            raise Refusal(409, "the cache cannot be flushed while a request uses it")
        each.core.take_events()


def _lose_removals(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    _lie(drivers, body, without_removals)


def _wrong_tokens(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    _lie(drivers, body, with_wrong_tokens)


def _lie(
    drivers: Sequence[Driver], body: Mapping[str, Any], lie: Callable[[Sequence[KvEvent]], Sequence[KvEvent]]
) -> None:
    for each in _publishers(drivers):
        each.lie = lie if body.get("on", True) else None


def without_removals(events: Sequence[KvEvent]) -> Sequence[KvEvent]:
    """As an engine that forgets to tell what it evicts."""
    return [event for event in events if not isinstance(event, BlockRemoved)]


def with_wrong_tokens(events: Sequence[KvEvent]) -> Sequence[KvEvent]:
    """As an engine that tells other tokens than it was sent."""
    return [
        replace(event, token_ids=[token + 1 for token in event.token_ids]) if isinstance(event, BlockStored) else event
        for event in events
    ]


FAULTS: Mapping[str, Fault] = {
    "crash": _crash,
    "hang-publisher": _hang,
    "drop-events": _drop,
    "restart-sequence": _restart_sequence,
    "malformed-events": _garbage,
    "flush-silently": _flush_silently,
    "lose-removals": _lose_removals,
    "wrong-tokens": _wrong_tokens,
}


def inflict(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    """Raises Refusal: no such fault."""
    fault = FAULTS.get(body.get("kind", ""))
    if fault is None:
        raise Refusal(400, f"kind must be one of {', '.join(FAULTS)}", param="kind")
    fault(drivers, body)

"""Faults on request: `POST /sim/fault {"kind": …}`."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvpool_sim.driver import Driver
from kvpool_sim.publisher import Publisher
from kvpool_sim.refusal import Refusal

Fault = Callable[[Sequence[Publisher], Mapping[str, Any]], None]


def _crash(publishers: Sequence[Publisher], body: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(publishers: Sequence[Publisher], body: Mapping[str, Any]) -> None:
    for each in publishers:
        each.hung = bool(body.get("on", True))


def _drop(publishers: Sequence[Publisher], body: Mapping[str, Any]) -> None:
    for each in publishers:
        each.dropping = int(body.get("batches", 1))


def _restart_sequence(publishers: Sequence[Publisher], body: Mapping[str, Any]) -> None:
    for each in publishers:
        each.restart_sequence()


def _garbage(publishers: Sequence[Publisher], body: Mapping[str, Any]) -> None:
    for each in publishers:
        each.publish_raw(bytes.fromhex(body.get("payload", "93c1")))


FAULTS: Mapping[str, Fault] = {
    "crash": _crash,
    "hang-publisher": _hang,
    "drop-events": _drop,
    "restart-sequence": _restart_sequence,
    "malformed-events": _garbage,
}


def inflict(drivers: Sequence[Driver], body: Mapping[str, Any]) -> None:
    """Raises Refusal: no such fault."""
    fault = FAULTS.get(body.get("kind", ""))
    if fault is None:
        raise Refusal(400, f"kind must be one of {', '.join(FAULTS)}", param="kind")
    fault([driver.publisher for driver in drivers if driver.publisher is not None], body)

"""Engines that ended for good: replaced at once the first time, ever later if it goes on; kept a while as evidence."""

from collections.abc import Iterator

from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import DeleteEngine, because

FIRST_DELAY_S = 5.0
MAX_DELAY_S = 300.0
KEPT = 5
KEPT_S = 600.0


def broken(seen: Observed) -> list[Engine]:
    """Newest last; those already being deleted do not count."""
    found = [engine for engine in seen.engines if engine.failed_at is not None and not engine.terminating]
    return sorted(found, key=lambda engine: (engine.failed_at or 0.0, engine.name))


def replacement_held_until(seen: Observed) -> float:
    """When the newest broken engine may be replaced: the delay doubles with each that is still in evidence."""
    found = broken(seen)
    if len(found) < 2:
        return 0.0
    doublings: int = len(found) - 2
    return (found[-1].failed_at or 0.0) + min(FIRST_DELAY_S * float(1 << doublings), MAX_DELAY_S)


def clear_broken(seen: Observed, now: float) -> Iterator[DeleteEngine]:
    """Old evidence goes, and so does what is more than a few."""
    found = broken(seen)
    for place, engine in enumerate(found):
        if now - (engine.failed_at or 0.0) >= KEPT_S or place < len(found) - KEPT:
            yield DeleteEngine(engine.name, engine.uid, because("Failed", "it ended for good and was replaced"))

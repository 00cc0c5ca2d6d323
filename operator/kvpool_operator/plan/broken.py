"""Engines that ended for good: replaced at once the first time, ever later if the replacements break too.

        A ────x                      the first wave breaks: replaced at once
        B ──────x
               A' ──x                a replacement breaks after it was made for a broken one: the chain is 2 long
                        A'' ──x      and 3: the delay doubles with each link

Everything follows from when the Pods in sight were made and ended, so a restarted operator neither forgets nor begins
anew. Capacity that is missing for another reason (more replicas, a drain) never waits for this.
"""

from bisect import bisect_right
from collections.abc import Iterator

from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import DeleteEngine, because

FIRST_DELAY_S = 5.0
MAX_DELAY_S = 300.0
KEPT = 8
"""So many links of the chain stay as evidence."""
KEPT_S = 1800.0


def broken(seen: Observed) -> list[Engine]:
    """Newest last; those already being deleted do not count."""
    found = [engine for engine in seen.engines if engine.failed_at is not None and not engine.terminating]
    return sorted(found, key=lambda engine: (engine.failed_at or 0.0, engine.name))


def chain(seen: Observed) -> list[Engine]:
    """The longest row of engines of which each was made after the one before had broken."""
    links: list[Engine] = []
    for engine in broken(seen):
        if not links or engine.created_at > (links[-1].failed_at or 0.0):
            links.append(engine)
    return links


def unreplaced(seen: Observed) -> list[Engine]:
    """Broken engines that no newer engine stands for; each newer one stands for the longest broken."""
    made = sorted(engine.created_at for engine in seen.engines)
    waiting = []
    for engine in broken(seen):
        place = bisect_right(made, engine.failed_at or 0.0)
        if place < len(made):
            made.pop(place)
        else:
            waiting.append(engine)
    return waiting


def replacement_held_until(seen: Observed) -> float:
    """When the engines that wait for it may be replaced; 0 where nothing is held."""
    waiting, links = unreplaced(seen), chain(seen)
    if not waiting or len(links) < 2:
        return 0.0
    doublings: int = min(len(links) - 2, KEPT)
    return (waiting[-1].failed_at or 0.0) + min(FIRST_DELAY_S * float(1 << doublings), MAX_DELAY_S)


def held_back(seen: Observed, now: float) -> int:
    """How many missing engines are not made yet, because those that they replace broke too soon."""
    return len(unreplaced(seen)) if now < replacement_held_until(seen) else 0


def clear_broken(seen: Observed, now: float) -> Iterator[DeleteEngine]:
    """Old evidence goes, and so does what says nothing of how long the next replacement should wait."""
    told = {engine.uid for engine in (*chain(seen)[-KEPT:], *unreplaced(seen))}
    for engine in broken(seen):
        if now - (engine.failed_at or 0.0) >= KEPT_S or engine.uid not in told:
            yield DeleteEngine(engine.name, engine.uid, because("Failed", "it ended for good and was replaced"))

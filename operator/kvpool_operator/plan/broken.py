"""Engines that ended for good: replaced at once the first time, ever later if the replacements break too.

        A ────x                      the first wave breaks: replaced at once
        B ──────x
               A' ──x                a replacement breaks after it was made for a broken one: the chain is 2 long
                        A'' ──x      and 3: the delay doubles with each link

Everything follows from when the Pods in sight were made and ended, so a restarted operator neither forgets nor begins
anew. Capacity that is missing for another reason (more replicas, a drain) never waits for this.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import DeleteEngine, because

FIRST_DELAY_S = 5.0
MAX_DELAY_S = 300.0
KEPT = 8
"""So many links of the chain stay as evidence: enough for the delay to have reached its maximum."""
KEPT_S = 1800.0
"""What broke longer ago says nothing of how the next engine will fare."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An engine that ended for good, and when (seconds since the epoch)."""

    engine: Engine
    at: float


def broken(seen: Observed) -> list[Broken]:
    """Newest last; those already being deleted do not count."""
    ended = ((engine, engine.failed_at) for engine in seen.engines if not engine.terminating)
    found = [Broken(engine, at) for engine, at in ended if at is not None]
    return sorted(found, key=lambda each: (each.at, each.engine.name))


def chain(seen: Observed) -> list[Broken]:
    """The longest row of engines of which each was made after the one before had broken."""
    links: list[Broken] = []
    for each in broken(seen):
        if not links or each.engine.created_at > links[-1].at:
            links.append(each)
    return links


def unreplaced(seen: Observed) -> list[Broken]:
    """Broken engines that no newer engine stands for; each newer one stands for the longest broken."""
    made = sorted(engine.created_at for engine in seen.engines)
    waiting = []
    for each in broken(seen):
        place = bisect_right(made, each.at)
        if place < len(made):
            made.pop(place)
        else:
            waiting.append(each)
    return waiting


def replacement_held_until(seen: Observed) -> float:
    """When the engines that wait for it may be replaced; 0 where nothing is held."""
    waiting, links = unreplaced(seen), chain(seen)
    if not waiting or len(links) < 2:
        return 0.0
    doublings = min(len(links) - 2, KEPT)
    return waiting[-1].at + min(math.ldexp(FIRST_DELAY_S, doublings), MAX_DELAY_S)


def held_back(seen: Observed, now: float) -> int:
    """How many missing engines are not made yet, because those that they replace broke too soon."""
    return len(unreplaced(seen)) if now < replacement_held_until(seen) else 0


def clear_broken(seen: Observed, now: float) -> Iterator[DeleteEngine]:
    """A broken Pod stays for a while, since the back-off is read off the chain of broken Pods and nothing else.

    Those go that are too old to matter, and those that are in no chain and already replaced: they would not change
    how long the next replacement waits.
    """
    told = {each.engine.uid for each in (*chain(seen)[-KEPT:], *unreplaced(seen))}
    for each in broken(seen):
        if now - each.at >= KEPT_S or each.engine.uid not in told:
            why = because("Failed", "it ended for good and was replaced")
            yield DeleteEngine(each.engine.name, each.engine.uid, why)

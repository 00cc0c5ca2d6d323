"""One answered request: what the map had said of it, and what the engine found. Pure."""

from dataclasses import dataclass
from enum import StrEnum

EXPLICABLE_BLOCKS = 1
"""A difference that proves nothing: engines that draft tokens (EAGLE, MTP) recompute the last block of a hit."""


class Outcome(StrEnum):
    """How the engine's word compares with the credit that was given."""

    EQUAL = "equal"
    LEARNED = "learned"
    """The engine held more, and by its events the map knows: it was stored while the request was under way."""
    MISSED = "missed"
    """The engine held more, and the map has heard of it at no time."""
    UNFULFILLED = "unfulfilled"
    """The engine held less than a prompt just sent had led to expect; by its events it had told no more."""
    EVICTED = "evicted"
    """The engine held less, and by its events the map knows: it was evicted while the request queued."""
    FALSE = "false"
    """The engine held less, and the map has had it as held all the time."""
    UNKNOWN = "unknown"
    """Nothing to compare: the engine does not say, the map was begun anew meanwhile, or the prompts differ."""


class Evidence(StrEnum):
    """What one answer says of a worker's map, for or against."""

    NONE = "none"
    CREDIT_HELD = "credit held"
    """The engine found what the map had."""
    CREDIT_FALSE = "credit false"
    """It did not, and no event tells why."""
    HOLDING_KNOWN = "holding known"
    """The map knows what the engine found."""
    HOLDING_UNKNOWN = "holding unknown"
    """It does not, and no event tells why."""


@dataclass(frozen=True, slots=True)
class MapsWord:
    """What the map said of one prompt at one worker, in whole leading blocks."""

    predicted: int
    """When it was placed: by events, or by prompts that were just sent there."""
    at_placing: int
    """When it was placed, by events alone."""
    least: int
    """The least since then, by events."""
    most: int
    """The most since then, by events. At least what the engine found, if the map is true: the request itself adds only
    what it had to compute, and those blocks hang on what was found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one answer."""

    outcome: Outcome
    over_blocks: int = 0
    """Credited and not found."""
    under_blocks: int = 0
    """Found and not credited."""


def compare(said: MapsWord, found: int) -> Finding:
    """Holds the map's word against the blocks that the engine reused."""
    if found == said.predicted:
        return Finding(Outcome.EQUAL)
    if found > said.predicted:
        outcome = Outcome.LEARNED if said.most >= found else Outcome.MISSED
        return Finding(outcome, under_blocks=found - said.predicted)
    if said.least > found:
        outcome = Outcome.FALSE
    elif said.at_placing > found:
        outcome = Outcome.EVICTED
    else:
        outcome = Outcome.UNFULFILLED
    return Finding(outcome, over_blocks=said.predicted - found)


def evidence(said: MapsWord, found: int) -> tuple[Evidence, ...]:
    """What the answer says for or against the map: of credit that was given, and of holdings that were known.

    Only by events: predictions may fail at no fault of the map. What would be right by chance (nothing held, nothing
    found) counts for nothing, nor does a difference of a single block.
    """
    about_credit = about_holding = Evidence.NONE
    if said.least > EXPLICABLE_BLOCKS:
        if found >= said.least:
            about_credit = Evidence.CREDIT_HELD
        elif found + EXPLICABLE_BLOCKS < said.least:
            about_credit = Evidence.CREDIT_FALSE
    if found > EXPLICABLE_BLOCKS:
        if said.most >= found:
            about_holding = Evidence.HOLDING_KNOWN
        elif said.most + EXPLICABLE_BLOCKS < found:
            about_holding = Evidence.HOLDING_UNKNOWN
    return tuple(each for each in (about_credit, about_holding) if each is not Evidence.NONE)

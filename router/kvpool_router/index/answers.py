"""What the index says: of a prompt, of events applied, of itself."""

from dataclasses import dataclass
from typing import NamedTuple


class Held(NamedTuple):
    """What one worker could reuse of a prompt, in tokens of whole blocks of its engine."""

    cached_tokens: int
    """By the engine's events."""
    predicted_tokens: int
    """By events or by prompts that were just sent there; never less than `cached_tokens`."""
    history_tokens: int
    """By events or by what was sent there in the last two cache sizes; never less than `cached_tokens`."""
    reachable_tokens: int
    """As `predicted_tokens`, and on from there what the engine could load from tiers below its GPU."""


@dataclass(slots=True)
class Applied:
    """What events did to the map, in blocks."""

    stored: int = 0
    """On the GPU."""
    removed: int = 0
    cleared: int = 0
    """Times that the GPU's cache was emptied."""
    offloaded: int = 0
    """Stored below the GPU, and it is known where they belong."""
    orphaned: int = 0
    """Stored after a block that the worker is not known to hold, or below the GPU and never seen above: no credit."""
    refused: int = 0
    """Real, but of no use to a text prompt here: another engine's, another attention group, images, another block size
    than the engine's first, or an event that contradicts itself."""
    unknown: int = 0
    """Removed, but not known to be held."""


class Size(NamedTuple):
    """What the map takes, for metrics and for tests of its bounds."""

    runs: int
    """Nodes, those included that only lead older entries on."""
    token_bytes: int
    """What the runs' tokens take, once for all who share them."""
    predictions: int
    namespaces: int
    workers: int

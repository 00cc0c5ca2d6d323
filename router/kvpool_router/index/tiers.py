"""Where an engine keeps a block: the closer to its compute, the sooner it can be used."""

from enum import IntEnum


class Tier(IntEnum):
    """Blocks below the GPU must be loaded before they can be used."""

    GPU = 0
    CPU = 1
    STORAGE = 2


def tier_of(medium: str | None, locality: str | None) -> Tier | None:
    """The tier that an event names: the GPU where it names none. None for what is not the engine's own, or unknown."""
    if locality not in (None, "LOCAL"):
        return None
    return _TIERS.get(medium)


_TIERS = {None: Tier.GPU, "GPU": Tier.GPU, "CPU": Tier.CPU, "STORAGE": Tier.STORAGE}

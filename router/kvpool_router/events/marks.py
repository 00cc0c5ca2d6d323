"""How far a worker's map follows its engine, in words that another process understands."""

import msgspec

from kvpool_router.events.standing import Lack


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A map that comes with its mark goes on by replay from `applied` inclusive, wherever it was made.

    The blocks in the map and the mark must be of one moment.
    """

    pod_uid: str
    restart_count: int
    """With `pod_uid`, the process of the engine that published the batches."""
    first: int
    """Lowest applied sequence; above 0, what was before is unknown."""
    applied: int
    """Highest applied sequence, at least 0; everything from `first` to here is in the map, once."""
    digest: bytes
    """Of that batch, as `sequence.digest` makes it."""
    stored_blocks: int
    lack: Lack
    cleared: bool
    """These as in `Tally`."""

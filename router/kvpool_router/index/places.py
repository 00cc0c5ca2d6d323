"""Where each of one engine's blocks is, by the engine's own hashes."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

_SHARDS = 16
_SLOTS = 256
"""By the low byte of a hash."""


def _shares() -> list[int]:
    """The shard of each slot. Each shard takes 2 ** (1 / 16) times as many slots as the one before."""
    weights = [2 ** (shard / _SHARDS) for shard in range(_SHARDS)]
    ends = [round(_SLOTS * sum_ / sum(weights)) for sum_ in accumulate(weights)]
    return [sum(end <= slot for end in ends) for slot in range(_SLOTS)]


_SHARD_OF = tuple(_shares())


class Places:
    """Hash -> place, both ints; a place is above 256.

    A Python dictionary is between a third and two thirds full and doubles at once: 94 bytes an entry before, 124 after.
    So the entries are spread over 16 dictionaries of unlike sizes, of which at any time some are about to double and
    some have just done so: 101 to 105 bytes an entry, however many there are.
    """

    __slots__ = ("_shards", "_slots")

    def __init__(self, shards: Sequence[dict[int, int]] | None = None) -> None:
        self._shards: Sequence[dict[int, int]] = shards or tuple({} for _ in range(_SHARDS))
        self._slots = [self._shards[shard] for shard in _SHARD_OF]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __contains__(self, key: int) -> bool:
        return key in self._slots[key & 255]

    def get(self, key: int) -> int | None:
        return self._slots[key & 255].get(key)

    def put(self, key: int, place: int) -> None:
        self._slots[key & 255][key] = place

    def pop(self, key: int) -> int | None:
        return self._slots[key & 255].pop(key, None)

    def enter(self, keys: Iterable[int], first: int) -> dict[int, int]:
        """The keys lead to `first` and the places after it, one each; returns where those known before led."""
        slots, known = self._slots, {}
        for place, key in enumerate(keys, first):
            shard = slots[key & 255]
            was = shard.setdefault(key, place)
            if was is not place:  # another object even where it is equal: Python shares ints up to 256 only
                known[key] = was
                shard[key] = place
        return known

    def copy(self) -> "Places":
        """Costs some nanoseconds an entry."""
        return Places([shard.copy() for shard in self._shards])

    def items(self) -> Iterator[tuple[int, int]]:
        return (item for shard in self._shards for item in shard.items())

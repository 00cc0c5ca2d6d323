"""Blocks of prompts in main memory, below the GPU's cache, as vLLM's native offloading keeps them (0.32).

vLLM: `distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py` and `v1/kv_offload/cpu/`, with the defaults that
`--kv-offloading-size` leaves: one block a chunk, prompts only, LRU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice, takewhile

from kvpool_sim.core.blocks import Hash
from kvpool_sim.core.events import BlockDropped, BlockOffloaded, KvEvent


class CpuTier:
    """Which blocks lie there, and who is loading them.

        held:  hash -> loads under way        the least recently used first

    A block is copied here as soon as it is computed and stays on the GPU as well; so the tier holds what the GPU has
    lost and what it will lose. A request that ends makes its blocks the newest, its first block the very newest, so
    that prompts lose their ends first.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._held: OrderedDict[Hash, int] = OrderedDict()
        self._events: list[KvEvent] = []

    @property
    def held(self) -> int:
        return len(self._held)

    def lookup(self, hashes: Sequence[Hash]) -> int:
        """How many of the first blocks are here."""
        return sum(1 for _ in takewhile(self._held.__contains__, hashes))

    def store(self, hashes: Sequence[Hash]) -> bool:
        """Copies these here, those apart that are here already; False (and nothing is done) where no room can be made.

        Neither what is being loaded nor what is offered is evicted for it.
        """
        if not self.blocks:
            return True
        new = [value for value in hashes if value not in self._held]
        over = len(self._held) + len(new) - self.blocks
        if over > 0:
            offered = set(hashes)
            idle = (value for value, loads in self._held.items() if not loads and value not in offered)
            evicted = tuple(islice(idle, over))
            if len(evicted) < over:
                return False
            for value in evicted:
                del self._held[value]
            self._events.append(BlockDropped(evicted))
        for value in new:
            self._held[value] = 0
            self._events.append(BlockOffloaded(value))
        return True

    def used(self, hashes: Sequence[Hash]) -> None:
        """A request that stored or loaded these, first to last, has ended."""
        for value in reversed(hashes):
            if value in self._held:
                self._held.move_to_end(value)

    def begin_load(self, hashes: Sequence[Hash]) -> None:
        """These, all of them here, stay until `end_load`."""
        for value in hashes:
            self._held[value] += 1

    def end_load(self, hashes: Sequence[Hash]) -> None:
        for value in hashes:
            self._held[value] -= 1

    def take_events(self) -> list[KvEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

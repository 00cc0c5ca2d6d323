"""Blocks that a worker was known to hold before events of it were lost: no credit until the engine names them again."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvpool_router.events.wire import BlockRemoved, BlockStored, KvEvent, TokenIds
from kvpool_router.index.tiers import Tier, tier_of
from kvpool_router.index.tree import KEY

MOST_BLOCKS = 1 << 19
"""Kept of one worker; the oldest go first. About 200 MB, which an engine needs 8 million cached tokens to reach."""


class _Place(NamedTuple):
    """The block is number `position` of what `event` stored."""

    event: BlockStored
    position: int


class Doubted:
    """What may have been removed unheard, by the engine's hashes, while it waits to be confirmed.

    A prompt's blocks stay in an engine's cache for as long as anything is stored after them: a request holds its whole
    prefix while it adds to it. So an event that stores blocks after a doubted one confirms that one and all before it,
    and they are stored in the map again, each once. An engine that began anew since could name such a hash only for the
    same tokens, as hashes are made of content; so it can confirm nothing that is not there.

    Tiers below the GPU are not kept: no event says that a block of theirs is still there.
    """

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, events: Iterable[KvEvent]) -> None:
        """Doubts what these events, in their order, make a map hold."""
        for event in events:
            if isinstance(event, BlockStored):
                self._doubt(event)
            else:
                self._learn_of_loss(event)
        for key in list(self._places)[: max(0, len(self._places) - MOST_BLOCKS)]:
            del self._places[key]

    def sift(self, events: Sequence[KvEvent]) -> tuple[list[KvEvent], int]:
        """The engine's next events, each after what it confirms, and the blocks that were confirmed."""
        sifted: list[KvEvent] = []
        confirmed = 0
        for event in events:
            if isinstance(event, BlockStored):
                chain = self._confirmed(event)
                confirmed += sum(len(each.block_hashes) for each in chain)
                sifted += chain
            else:
                self._learn_of_loss(event)
            sifted.append(event)
        return sifted, confirmed

    def clear(self) -> None:
        self._places.clear()

    def _doubt(self, event: BlockStored) -> None:
        if _on_gpu(event):
            for position, value in enumerate(event.block_hashes):
                key = value & KEY
                self._places.pop(key, None)
                self._places[key] = _Place(event, position)

    def _learn_of_loss(self, event: KvEvent) -> None:
        if not _on_gpu(event):
            return
        if isinstance(event, BlockRemoved):
            self._forget(event.block_hashes)
        else:
            self._places.clear()

    def _forget(self, hashes: Iterable[int]) -> None:
        for value in hashes:
            self._places.pop(value & KEY, None)

    def _confirmed(self, event: BlockStored) -> list[BlockStored]:
        """What leads to the event, from where the map's own knowledge ends, the first blocks first.

        The event's own blocks are doubted no more.
        """
        if not _on_gpu(event):
            return []
        self._forget(event.block_hashes)
        chain: list[BlockStored] = []
        parent = event.parent_block_hash
        while parent is not None and (place := self._places.get(parent & KEY)) is not None:
            if place.event.group_idx != event.group_idx:
                break
            part = self._part(place)
            self._forget(part.block_hashes)
            chain.append(part)
            parent = part.parent_block_hash
        return chain[::-1]

    def _part(self, place: _Place) -> BlockStored:
        """The doubted blocks of one event up to the place, back to its start or to one that is doubted no more."""
        event, end = place.event, place.position + 1
        begin = place.position
        while begin and self._is_of(event, begin - 1):
            begin -= 1
        size = len(event.token_ids) // len(event.block_hashes)
        return BlockStored(
            event.block_hashes[begin:end],
            event.block_hashes[begin - 1] if begin else event.parent_block_hash,
            TokenIds(event.token_ids[begin * size : end * size]),
            event.block_size,
            medium=event.medium,
            lora_name=event.lora_name,
            extra_keys=event.extra_keys and event.extra_keys[begin:end],
            group_idx=event.group_idx,
            kv_cache_spec_kind=event.kv_cache_spec_kind,
        )

    def _is_of(self, event: BlockStored, position: int) -> bool:
        place = self._places.get(event.block_hashes[position] & KEY)
        return place is not None and place.event is event and place.position == position


def _on_gpu(event: KvEvent) -> bool:
    locality = None if not isinstance(event, BlockStored | BlockRemoved) else event.locality
    return tier_of(event.medium, locality) is Tier.GPU

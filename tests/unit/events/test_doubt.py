"""Blocks from before lost events count again only where the engine's own later events prove that they are there."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.events import doubt
from kvpool_router.events.doubt import Doubted
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent, TokenIds

Path = tuple[int, ...]


def hash_of(path: Path) -> int:
    """By content, as engines make it; longer than what a map keeps of it."""
    return hash(("block", path)) & ((1 << 64) - 1)


def stored(path: Path, first: int, *, group: int | None = None, medium: str = "GPU") -> BlockStored:
    """The blocks of the path from number `first` on, one token each."""
    return BlockStored(
        [hash_of(path[:end]) for end in range(first + 1, len(path) + 1)],
        hash_of(path[:first]) if first else None,
        TokenIds(b"".join(block.to_bytes(4, "little") for block in path[first:])),
        1,
        medium=medium,
        group_idx=group,
        extra_keys=[None] * (len(path) - first),
    )


def removed(*paths: Path, medium: str = "GPU") -> BlockRemoved:
    return BlockRemoved([hash_of(path) for path in paths], medium)


@dataclass
class Engine:
    """Holds blocks; stores after a block only while all before it are there, as a request holds its prefix."""

    held: set[Path] = field(default_factory=set)

    def serve(self, path: Path) -> list[KvEvent]:
        first = next((end for end in range(len(path)) if path[: end + 1] not in self.held), len(path))
        self.held |= {path[: end + 1] for end in range(len(path))}
        return [stored(path, first)] if first < len(path) else []

    def evict(self, number: int) -> list[KvEvent]:
        if not self.held:
            return []
        path = sorted(self.held)[number % len(self.held)]
        self.held.remove(path)
        return [removed(path)]

    def clear(self) -> list[KvEvent]:
        self.held.clear()
        return [AllBlocksCleared()]


@dataclass
class Known:
    """A map as plain as can be, with what it doubts."""

    paths: dict[int, Path] = field(default_factory=dict)
    doubted: Doubted = field(default_factory=Doubted)

    def hear(self, events: list[KvEvent]) -> None:
        sifted, confirmed = self.doubted.sift(events)
        assert [event for event in sifted if any(event is each for each in events)] == events
        assert confirmed == sum(
            len(event.block_hashes)
            for event in sifted
            if isinstance(event, BlockStored) and not any(event is each for each in events)
        )
        for event in sifted:
            self._apply(event)

    def lose(self) -> None:
        ordered = sorted(self.paths.values(), key=len)
        self.doubted.add([stored(path, len(path) - 1) for path in ordered])
        self.paths.clear()

    def _apply(self, event: KvEvent) -> None:
        if isinstance(event, BlockStored):
            before = () if event.parent_block_hash is None else self.paths.get(event.parent_block_hash)
            if before is not None:
                blocks = memoryview(event.token_ids).cast("I")
                for end, value in enumerate(event.block_hashes, 1):
                    self.paths[value] = (*before, *blocks[:end])
        elif isinstance(event, BlockRemoved):
            for value in event.block_hashes:
                self.paths.pop(value, None)
        else:
            self.paths.clear()


paths = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple)
steps = st.one_of(
    st.tuples(st.just("serve"), paths),
    st.tuples(st.just("evict"), st.integers(0, 99)),
    st.tuples(st.just("clear"), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.lists(steps, max_size=12), st.lists(steps, max_size=6)), min_size=1, max_size=4))
def test_whatever_was_lost_nothing_is_claimed_that_the_engine_does_not_have(histories):
    engine, known = Engine(), Known()
    for heard, lost in histories:
        for name, argument in heard:
            args = () if argument is None else (argument,)
            known.hear(getattr(engine, name)(*args))
            assert set(known.paths.values()) <= engine.held
        for name, argument in lost:
            getattr(engine, name)(*(() if argument is None else (argument,)))
        known.lose()


@given(paths, paths)
def test_a_block_stored_after_doubted_ones_brings_all_of_them_back(before, after):
    known = Known()
    known.hear([stored(before, 0)])
    known.lose()
    assert not known.paths
    known.hear([stored(before + after, len(before))])
    whole = before + after
    assert set(known.paths.values()) == {whole[:end] for end in range(1, len(whole) + 1)}
    assert len(known.doubted) == 0


def doubting(*events: KvEvent) -> Doubted:
    doubted = Doubted()
    doubted.add(events)
    return doubted


def test_a_block_that_is_stored_again_or_removed_is_doubted_no_more():
    doubted = doubting(stored((1, 2, 3, 4), 0))
    doubted.sift([stored((1,), 0), removed((1, 2))])
    assert len(doubted) == 2
    (part, _), confirmed = doubted.sift([stored((1, 2, 3, 4, 5), 4)])
    assert isinstance(part, BlockStored)
    assert part.block_hashes == [hash_of((1, 2, 3)), hash_of((1, 2, 3, 4))]
    assert part.parent_block_hash == hash_of((1, 2))
    assert bytes(part.token_ids) == b"\3\0\0\0\4\0\0\0"
    assert part.extra_keys == [None, None]
    assert confirmed == 2


def test_what_leads_to_the_end_of_a_longer_event_leaves_the_rest_in_doubt():
    doubted = doubting(stored((1, 2, 3, 4), 0))
    _, confirmed = doubted.sift([stored((1, 2, 9), 2)])
    assert (confirmed, len(doubted)) == (2, 2)


def test_another_attention_groups_blocks_confirm_nothing():
    doubted = doubting(stored((1, 2), 0, group=0))
    assert doubted.sift([stored((1, 2, 3), 2, group=1)])[1] == 0
    assert doubted.sift([stored((1, 2, 3), 2, group=0)])[1] == 2


def test_tiers_below_the_gpu_are_not_kept_and_change_no_doubt():
    assert len(doubting(stored((1, 2), 0, medium="CPU"))) == 0
    doubted = doubting(stored((1, 2), 0))
    doubted.sift([removed((1, 2), medium="CPU"), AllBlocksCleared("CPU"), stored((1, 2, 3), 1, medium="CPU")])
    assert len(doubted) == 2


def test_an_emptied_cache_ends_all_doubt():
    doubted = doubting(stored((1, 2), 0))
    doubted.sift([AllBlocksCleared()])
    assert len(doubted) == 0


def test_what_a_dump_stores_only_to_remove_it_is_not_doubted():
    assert len(doubting(stored((1, 2), 0), removed((1,)))) == 1


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doubt, "MOST_BLOCKS", 3)
    doubted = doubting(stored((1, 2), 0), stored((5, 6, 7), 0))
    assert len(doubted) == 3
    assert doubted.sift([stored((5, 6, 7, 8), 3)])[1] == 3


def test_a_confirmed_beginning_is_still_its_adapters_and_its_salts_alone() -> None:
    doubted = Doubted()
    first = stored((1, 2), 0)
    first.lora_name, first.extra_keys = "sql", [("sql", "salt"), ("sql",)]
    doubted.add([first])
    (confirmed, _), count = doubted.sift([stored((1, 2, 3), 2)])
    assert isinstance(confirmed, BlockStored)
    assert (confirmed.lora_name, confirmed.extra_keys, count) == ("sql", [("sql", "salt"), ("sql",)], 2)

import msgspec
import pytest
from event_publisher import stored, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.events.marks import Mark
from kvpool_router.events.standing import Lack
from kvpool_router.events.wire import BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.siblings import snapshot
from kvpool_router.siblings.frames import LONGEST_PAYLOAD, FrameReader, FrameWriter, Refused
from kvpool_router.siblings.snapshot import (
    LONGEST_PROMPT,
    SNAPSHOT,
    EndPart,
    EventsPart,
    HistoryPart,
    Loading,
    Part,
    encoded,
    told,
)
from sibling_deeds import WORKERS

PLAIN = Namespace()
HISTORY = 64 * 16
BLOCKS = st.integers(1, 6)
PROMPTS = st.lists(
    st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.sampled_from([PLAIN, Namespace("a", "s")])),
    max_size=12,
)


class Standing:
    last_sequence = 0


class Marks:
    """A plane whose maps are all between two batches."""

    def marks(self):
        return {worker: Mark(worker.pod, 0, 0, 7, b"digest", 3, Lack.NOTHING, False) for worker in WORKERS}

    def standing(self, worker):
        return Standing()


def new_map():
    return CacheMap(16, 60.0, 0)


def told_map(blocks, prompts, untrusted=()):
    """A giver's map: one worker holds these blocks, all were sent these prompts."""
    cache = new_map()
    for worker in WORKERS:
        cache.set_history(worker, HISTORY)
    for block in blocks:
        event = stored(block, blocks=3)
        ids = TokenIds(b"".join(each.to_bytes(4, "little") for each in event["token_ids"]))
        cache.apply(WORKERS[0], [BlockStored(event["block_hashes"], None, ids, 16, medium="GPU")])
    for at, (path, namespace) in enumerate(prompts):
        cache.sent(WORKERS[at % 2], prompt_of(path), namespace, 0.0)
    cache.settle()
    return cache


def prompt_of(path):
    return b"".join(each.to_bytes(4, "little") * 16 for each in path) + bytes(4)


async def frames(cache, trusted=lambda worker: True):
    return [frame async for frame in told(Marks(), cache, trusted)]


def load(stream):
    """The map that a newcomer has after reading the stream; raises Refused."""
    cache, reader = new_map(), FrameReader(SNAPSHOT)
    loading = Loading(cache)
    try:
        for payload in reader.feed(stream):
            loading.take(payload)
        if not loading.is_whole or reader.amid:
            raise Refused("it ended early")
    except Refused:
        loading.undo()
        assert cache.size().workers == 0
        raise
    return cache, loading.marks


@settings(deadline=None)
@given(st.sets(BLOCKS), PROMPTS)
async def test_a_loaded_map_answers_as_the_one_it_was_taken_of_and_has_its_marks(blocks, prompts):
    giver = told_map(blocks, prompts)
    taker, marks = load(b"".join(await frames(giver)))
    assert marks == {worker: mark for worker, mark in Marks().marks().items() if worker in giver.workers()}
    asked = [(tokens_of(block, blocks=3), PLAIN) for block in range(8)]
    asked += [(prompt_of(path), namespace) for path, namespace in prompts]
    for tokens, namespace in asked:
        wanted, found = giver.match(tokens, namespace, 1e9), taker.match(tokens, namespace, 1e9)
        assert found == wanted


@settings(deadline=None)
@given(PROMPTS, PROMPTS)
async def test_a_history_goes_on_elsewhere_as_where_it_began(before, after):
    giver = told_map((), before)
    for worker in WORKERS:
        giver.set_history(worker, 5 * 16)
    taker, _ = load(b"".join(await frames(giver)))
    for at, (path, namespace) in enumerate(after):
        for cache in (giver, taker):
            cache.sent(WORKERS[at % 2], prompt_of(path), namespace, 0.0)
    for path, namespace in (*before, *after):
        assert taker.match(prompt_of(path), namespace, 1e9) == giver.match(prompt_of(path), namespace, 1e9)


def long_prompts(*blocks):
    """Prompts of so many blocks that share none, each for the first worker, with the giver's map that has them."""
    paths = [[at] * count for at, count in enumerate(blocks, 1)]
    padding = ([9], PLAIN)
    return [prompt_of(path)[:-4] for path in paths], told_map(
        (), [e for path in paths for e in ((path, PLAIN), padding)]
    )


async def histories(giver):
    """What is told of the first worker's prompts, part by part."""
    reader = FrameReader(SNAPSHOT)
    payloads = [payload for frame in await frames(giver) for payload in reader.feed(frame)]
    parts = [msgspec.msgpack.decode(payload, type=Part) for payload in payloads]
    told = [[prompt for prompt, _ in each.prompts] for each in parts if isinstance(each, HistoryPart)]
    return told[:-1]


async def test_a_prompt_that_no_frame_has_room_for_is_left_out_of_the_history(monkeypatch):
    (short, fits, _, last), giver = long_prompts(2, 20, 21, 3)
    longest = len(msgspec.msgpack.encode((fits, PLAIN)))
    monkeypatch.setattr(snapshot, "LONGEST_PROMPT", longest)
    told = await histories(giver)
    assert told == [[short, fits, last]]
    assert len(encoded(HistoryPart([(fits, PLAIN)]))) <= longest + LONGEST_PAYLOAD - LONGEST_PROMPT


async def test_what_is_told_of_a_history_at_once_is_bounded_in_bytes(monkeypatch):
    (one, two, long, three), giver = long_prompts(2, 2, 20, 3)
    monkeypatch.setattr(snapshot, "PROMPT_BYTES_AT_ONCE", 5 * len(one) // 2)
    told = await histories(giver)
    assert told == [[one, two], [long], [three]]


@settings(deadline=None)
@given(st.data())
async def test_a_byte_that_is_wrong_anywhere_leaves_nothing_in_the_map(data):
    stream = bytearray(b"".join(await frames(told_map({1, 2}, [([1, 2], PLAIN)]))))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        load(bytes(stream))


@settings(deadline=None)
@given(st.data())
async def test_a_snapshot_cut_anywhere_leaves_nothing_in_the_map(data):
    stream = b"".join(await frames(told_map({1, 2}, [([1, 2], PLAIN)])))
    with pytest.raises(Refused):
        load(stream[: data.draw(st.integers(0, len(stream) - 1))])


async def test_a_worker_that_is_not_trusted_is_left_to_be_replayed():
    given_away = await frames(told_map({1}, [([1], PLAIN), ([2], PLAIN)]), lambda worker: worker == WORKERS[1])
    taker, marks = load(b"".join(given_away))
    assert set(marks) == set(taker.workers()) == {WORKERS[1]}


@pytest.mark.parametrize(
    "parts",
    [
        [EventsPart(b"\x93\xcb" + bytes(8) + b"\x90\xc0"), EndPart(0)],
        [HistoryPart([(bytes(64), PLAIN)]), EndPart(0)],
        [EndPart(1)],
        [EndPart(0), EndPart(0)],
        [],
    ],
)
def test_a_snapshot_that_makes_no_sense_is_refused(parts):
    writer = FrameWriter(SNAPSHOT)
    with pytest.raises(Refused):
        load(b"".join(writer.frame(encoded(part)) for part in parts))


def test_what_is_no_part_is_refused():
    with pytest.raises(Refused):
        load(FrameWriter(SNAPSHOT).frame(b"\xc1"))

"""Any history of events, sent prompts and losses, in any order, gives the answers of a page of dictionaries."""

import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_oracle import BLOCK_TOKENS, IndexOracle, Path, Place, tokens_of
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.tiers import Tier
from kvpool_router.workers import WorkerId

TTL_S = 10.0
PLAIN = Namespace(None, None)
NAMESPACES = (PLAIN, Namespace("adapter", None), Namespace(None, "salt"), Namespace("adapter", "salt"))
WORKERS = tuple(WorkerId(f"pod-{number}", number % 2) for number in range(3))


def block_hash(worker: WorkerId, place: Place) -> int:
    """Engines hash as they like, each by its own seed."""
    return hash((worker, place)) & (1 << 64) - 1


def stored(worker: WorkerId, namespace: Namespace, path: Path, start: int = 0, tier: Tier = Tier.GPU) -> BlockStored:
    """The event for the blocks of `path` from `start` on."""
    keys: list[tuple[str, ...] | None] = [
        tuple(key for key in (namespace.lora_name, namespace.cache_salt if end == 1 else None) if key) or None
        for end in range(start + 1, len(path) + 1)
    ]
    return BlockStored(
        [block_hash(worker, (namespace, path[:end])) for end in range(start + 1, len(path) + 1)],
        block_hash(worker, (namespace, path[:start])) if start else None,
        TokenIds(tokens_of(path[start:])),
        BLOCK_TOKENS,
        medium=tier.name,
        lora_name=namespace.lora_name,
        extra_keys=keys,
        group_idx=0,
        kv_cache_spec_kind="full_attention",
    )


class World:
    """The index and the oracle, told the same."""

    def __init__(self, longest_run: int, history: int) -> None:
        self.empty_index = partial(CacheMap, BLOCK_TOKENS, TTL_S, history * BLOCK_TOKENS or None, longest_run)
        self.index = self.empty_index()
        self.oracle = IndexOracle(TTL_S, history)
        self.now = 0.0

    def store(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        start = min(start, len(path) - 1)
        self.index.apply(worker, [stored(worker, namespace, path, start)])
        self.oracle.stored(worker, namespace, path, start)

    def remove(self, worker: WorkerId, namespace: Namespace, path: Path, _: int) -> None:
        self.index.apply(worker, [BlockRemoved([block_hash(worker, (namespace, path))], "GPU", 0)])
        self.oracle.removed(worker, (namespace, path))

    def serve(self, worker: WorkerId, namespace: Namespace, path: Path, _: int) -> None:
        self.send(worker, namespace, path, 0)
        self.store(worker, namespace, path, 0)

    def evict(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        """As engines do: the end of a prompt first."""
        for end in range(len(path), start, -1):
            self.remove(worker, namespace, path[:end], 0)

    def offload(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        """As vLLM's native connector tells it: a hash and nothing else."""
        for end in range(start + 1, len(path) + 1):
            key = block_hash(worker, (namespace, path[:end]))
            event = BlockStored([key], None, TokenIds(), 0, medium="CPU", group_idx=0)
            self.index.apply(worker, [event])
            self.oracle.stored_by_hash(worker, (namespace, path[:end]), Tier.CPU)

    def write_down(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        """With tokens and all."""
        start = min(start, len(path) - 1)
        self.index.apply(worker, [stored(worker, namespace, path, start, Tier.STORAGE)])
        self.oracle.stored(worker, namespace, path, start, Tier.STORAGE)

    def remove_below(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        tier = (Tier.CPU, Tier.STORAGE)[start % 2]
        self.index.apply(worker, [BlockRemoved([block_hash(worker, (namespace, path))], tier.name, 0)])
        self.oracle.removed(worker, (namespace, path), tier)

    def clear(self, worker: WorkerId, *_: object) -> None:
        self.index.apply(worker, [AllBlocksCleared()])
        self.oracle.cleared(worker)

    def clear_one(self, worker: WorkerId, _: Namespace, __: Path, start: int) -> None:
        tier = Tier(start % 3)
        self.index.apply(worker, [AllBlocksCleared(tier.name)])
        self.oracle.cleared(worker, (tier,))

    def hand_on(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        """A new map is told what the old one was when it was asked, though that has gone on since."""
        before, self.index = self.index, self.empty_index()
        dumps = [(each, before.dump(each)) for each in before.workers()]
        before.apply(worker, [stored(worker, namespace, path, 0), AllBlocksCleared(Tier(start % 3).name)])
        before.apply(worker, [stored(worker, namespace, (*path, start), 0)])
        for each, events in dumps:
            for some in events:
                self.index.apply(each, some)
        for each, here in self.oracle.workers.items():
            if here.suspended:
                self.index.suspend(each)
        self.oracle.restored()

    def drop(self, worker: WorkerId, *_: object) -> None:
        self.index.drop(worker)
        self.oracle.dropped(worker)

    def suspend(self, worker: WorkerId, *_: object) -> None:
        self.index.suspend(worker)
        self.oracle.worker(worker).suspended = True

    def resume(self, worker: WorkerId, *_: object) -> None:
        self.index.resume(worker)
        self.oracle.worker(worker).suspended = False

    def send(self, worker: WorkerId, namespace: Namespace, path: Path, _: int) -> None:
        self.index.sent(worker, tokens_of(path), namespace, self.now)
        self.oracle.sent(worker, namespace, path, self.now)

    def take_back(self, worker: WorkerId, namespace: Namespace, path: Path, start: int) -> None:
        """Something that is predicted, or nothing that is."""
        predicted = [*self.oracle.worker(worker).predictions, (namespace, path)]
        namespace, path = predicted[start % len(predicted)]
        self.index.unsent(worker, tokens_of(path), namespace)
        self.oracle.unsent(worker, namespace, path)

    def refuse(self, worker: WorkerId, namespace: Namespace, path: Path, _: int) -> None:
        self.send(worker, namespace, path, 0)
        self.index.unsent(worker, tokens_of(path), namespace)
        self.oracle.unsent(worker, namespace, path)

    def settle(self, *_: object) -> None:
        """Whenever it comes, no answer may change by it."""
        self.index.settle()

    def bound(self, worker: WorkerId, _: Namespace, path: Path, start: int) -> None:
        self.index.set_history(worker, (len(path) + start) * BLOCK_TOKENS)
        self.oracle.bounded(worker, len(path) + start)

    def wait(self, _: WorkerId, __: Namespace, path: Path, ___: int) -> None:
        self.now += len(path)

    def agrees_on(self, namespace: Namespace, path: Path) -> None:
        tokens = tokens_of(path) + b"\1\0\0\0"
        assert self.index.match(tokens, namespace, self.now) == self.oracle.match(namespace, path, self.now)


Deed = Callable[[World, WorkerId, Namespace, Path, int], None]
BUSY: tuple[Deed, ...] = (World.store, World.store, World.store, World.evict, World.remove, World.send, World.serve)
BUSY += (World.offload, World.write_down, World.remove_below, World.take_back, World.refuse)
RARE: tuple[Deed, ...] = (
    World.clear,
    World.clear_one,
    World.hand_on,
    World.drop,
    World.suspend,
    World.resume,
    World.bound,
    World.wait,
    World.settle,
)

paths = st.lists(st.sampled_from((0, 0, 0, 1, 2)), min_size=1, max_size=9).map(tuple)
deeds = st.tuples(
    st.sampled_from(BUSY * 3 + RARE),
    st.sampled_from(WORKERS),
    st.sampled_from((PLAIN,) * 8 + NAMESPACES),
    paths,
    st.integers(0, 8),
)


def busy_history(seed: int, length: int) -> list[tuple[Deed, WorkerId, Namespace, Path, int]]:
    """Long, and on few prompts: what hypothesis draws element by element rarely is."""
    rng = random.Random(seed)
    return [
        (
            rng.choice(BUSY * 3 + RARE),
            rng.choice(WORKERS),
            rng.choice((PLAIN,) * 4 + NAMESPACES[:2]),
            tuple(rng.choices((0, 0, 1, 2), k=rng.randint(1, 9))),
            rng.randint(0, 8),
        )
        for _ in range(length)
    ]


histories = st.lists(deeds, max_size=12) | st.builds(busy_history, st.integers(0, 1 << 32), st.just(50))
worlds = st.builds(World, st.integers(1, 6), st.sampled_from((0, 4, 12)))


def replay(world: World, history: list[tuple[Deed, WorkerId, Namespace, Path, int]], asked: Path) -> None:
    """Does every deed to both and asks both about every prompt of late."""
    for step, (deed, worker, namespace, path, start) in enumerate(history):
        deed(world, worker, namespace, path, start)
        world.agrees_on(PLAIN, asked)
        for _, _, earlier_namespace, earlier, _ in history[max(0, step - 12) : step + 1]:
            world.agrees_on(earlier_namespace, earlier)
    for worker in WORKERS:
        assert world.index.blocks(worker) == len(world.oracle.worker(worker).copies)
    for namespace in NAMESPACES:
        for _, _, _, path, _ in history:
            world.agrees_on(namespace, path)


@settings(max_examples=150, deadline=None)
@given(histories, worlds, paths)
def test_any_history_is_answered_as_the_dictionaries_answer_it(history, world, asked):
    replay(world, history, asked)


@pytest.mark.parametrize("seed", range(60))
def test_a_long_busy_history_is_answered_as_the_dictionaries_answer_it(seed):
    replay(World(1 + seed % 6, (0, 4, 12)[seed % 3]), busy_history(seed, 60), (0, 0, 1, 0))


@settings(max_examples=100, deadline=None)
@given(histories, worlds)
def test_nothing_is_left_once_every_worker_is_dropped(history, world):
    for deed, worker, namespace, path, start in history:
        deed(world, worker, namespace, path, start)
    for worker in WORKERS:
        world.drop(worker)
    assert world.index.size() == (0, 0, 0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(histories, worlds)
def test_runs_and_their_tokens_are_bounded_by_the_blocks_known_and_what_leads_to_them(history, world):
    for deed, worker, namespace, path, start in history:
        deed(world, worker, namespace, path, start)
    needed = {
        (namespace, path[:end])
        for here in world.oracle.workers.values()
        for namespace, path in (
            *(place for held in here.tiers.values() for place in held),
            *here.predictions,
            *here.stamps,
        )
        for end in range(1, len(path) + 1)
    }
    assert world.index.size().runs <= 2 * len(needed)
    assert world.index.size().token_bytes <= 2 * len(needed) * BLOCK_TOKENS * 4

"""The data set `families-40`, and indexes filled with it as engines would fill them."""

import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from kvpool_router.events.wire import decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId

BLOCK_TOKENS = 16
BLOCK_BYTES = 4 * BLOCK_TOKENS
SHARED_BLOCKS, OWN_BLOCKS = 300, 150
FAMILIES = 40
VOCABULARY = 128_000
WORKER_BLOCKS = 20_000
PREDICTED_PROMPTS = 32
PLAIN = Namespace()


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive blocks that one engine stored."""

    worker: WorkerId
    parent: int | None
    hashes: list[int]
    tokens: bytes


@dataclass(frozen=True, slots=True)
class DataSet:
    workers: tuple[WorkerId, ...]
    stretches: list[Stretch]
    prompts: list[tuple[WorkerId, bytes]]

    @property
    def blocks(self) -> int:
        return sum(len(stretch.hashes) for stretch in self.stretches)


def families(workers: int, worker_blocks: int, seed: int = 1) -> DataSet:
    """The data set `families-40`."""
    rng = random.Random(seed)
    names = tuple(WorkerId(f"pod-{number}", 0) for number in range(workers))
    shared = [random_tokens(rng, SHARED_BLOCKS) for _ in range(FAMILIES)]
    homes = [rng.sample(names, workers // 4) for _ in range(FAMILIES)]
    stretches: list[Stretch] = []
    prompts: list[tuple[WorkerId, bytes]] = []
    for worker in names:
        heads: dict[int, Stretch] = {}
        held = 0
        mine = [family for family in range(FAMILIES) if worker in homes[family]]
        while mine and held + OWN_BLOCKS <= worker_blocks:
            family = rng.choice(mine)
            if family not in heads:
                heads[family] = Stretch(worker, None, random_hashes(rng, SHARED_BLOCKS), shared[family])
                stretches.append(heads[family])
                held += SHARED_BLOCKS
            own = random_tokens(rng, OWN_BLOCKS)
            stretches.append(Stretch(worker, heads[family].hashes[-1], random_hashes(rng, OWN_BLOCKS), own))
            prompts.append((worker, shared[family] + own))
            held += OWN_BLOCKS
    return DataSet(names, stretches, prompts)


def random_tokens(rng: random.Random, blocks: int) -> bytes:
    return array("I", rng.choices(range(VOCABULARY), k=blocks * BLOCK_TOKENS)).tobytes()


def random_hashes(rng: random.Random, blocks: int) -> list[int]:
    return [rng.getrandbits(64) for _ in range(blocks)]


def messages(stretch: Stretch, blocks: int) -> Iterator[bytes]:
    """The stretch as vLLM 0.32 publishes it, so many blocks an event, one event a message."""
    parent = stretch.parent
    for start in range(0, len(stretch.hashes), blocks):
        hashes = stretch.hashes[start : start + blocks]
        event = {
            "type": "BlockStored",
            "block_hashes": hashes,
            "parent_block_hash": parent,
            "token_ids": array("I", stretch.tokens[start * BLOCK_BYTES : (start + blocks) * BLOCK_BYTES]).tolist(),
            "block_size": BLOCK_TOKENS,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
            "extra_keys": [None] * len(hashes),
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        }
        yield msgspec.msgpack.encode([1_795_493_548.25, [event], 0])
        parent = hashes[-1]


def encoded(data: DataSet, blocks: int) -> list[tuple[WorkerId, bytes]]:
    return [(stretch.worker, payload) for stretch in data.stretches for payload in messages(stretch, blocks)]


def ingest(index: CacheMap, stream: list[tuple[WorkerId, bytes]]) -> float:
    """Applies a stream of messages, decode included; returns seconds of one core, which neighbours do not lengthen."""
    began = time.process_time()
    for worker, payload in stream:
        index.apply(worker, decode(payload).events)
    return time.process_time() - began


def filled(data: DataSet) -> CacheMap:
    """An index as it is in service: prompts sent, most of them confirmed by events."""
    index = CacheMap(BLOCK_TOKENS, prediction_ttl_s=60.0, history_tokens=2 * WORKER_BLOCKS * BLOCK_TOKENS)
    for worker, prompt in data.prompts:
        index.sent(worker, prompt, PLAIN, 0.0)
    ingest(index, encoded(data, 32))
    rng = random.Random(2)
    for worker, prompt in rng.sample(data.prompts, PREDICTED_PROMPTS):
        index.sent(worker, prompt + random_tokens(rng, 8), PLAIN, 0.0)
    index.settle()
    return index

"""Is the index quick and small enough to ask on every request, and to follow every engine?

python -m benchmarks.index [--quick] [--json]

Data set `families-40` (seeded): 40 families of prompts; a prompt is 450 blocks of 16 tokens, the first 300 shared by
its family, the last 150 its own. Each family lives on a quarter of the workers, each worker holds about 20,000 blocks;
each engine hashes with its own seed. Lookups ask all three layers: prompts were sent through the index, so its history
is full, and some are still predicted. The ordinary way beside it knows the events only.
"""

import argparse
import gc
import json
import multiprocessing
import random
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec
import psutil
import xxhash
from kvpool_router.events.wire import decode
from kvpool_router.index.answers import Held
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId
from rich.console import Console
from rich.table import Table

BLOCK_TOKENS = 16
BLOCK_BYTES = 4 * BLOCK_TOKENS
SHARED_BLOCKS, OWN_BLOCKS = 300, 150
FAMILIES = 40
VOCABULARY = 128_000
WORKER_BLOCKS = 20_000
JUST_GROWN_BLOCKS = 22_000
"""An engine's map is a Python dictionary, which doubles at 21,845 entries: right after that it weighs most."""
QUICK_WORKER_BLOCKS = 5_000
PREDICTED_PROMPTS = 32
PLAIN = Namespace()
Answer = TypeVar("Answer")


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
    shared = [_tokens(rng, SHARED_BLOCKS) for _ in range(FAMILIES)]
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
                heads[family] = Stretch(worker, None, _hashes(rng, SHARED_BLOCKS), shared[family])
                stretches.append(heads[family])
                held += SHARED_BLOCKS
            own = _tokens(rng, OWN_BLOCKS)
            stretches.append(Stretch(worker, heads[family].hashes[-1], _hashes(rng, OWN_BLOCKS), own))
            prompts.append((worker, shared[family] + own))
            held += OWN_BLOCKS
    return DataSet(names, stretches, prompts)


def _tokens(rng: random.Random, blocks: int) -> bytes:
    return array("I", rng.choices(range(VOCABULARY), k=blocks * BLOCK_TOKENS)).tobytes()


def _hashes(rng: random.Random, blocks: int) -> list[int]:
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


class HashDictionary:
    """The ordinary way: chained hashes of blocks, a set of workers for each, intersected block by block."""

    def __init__(self, data: DataSet) -> None:
        self._holders: dict[int, set[WorkerId]] = {}
        for worker, prompt in data.prompts:
            chained = 0
            for start in range(0, len(prompt), BLOCK_BYTES):
                chained = xxhash.xxh3_64_intdigest(prompt[start : start + BLOCK_BYTES], chained)
                self._holders.setdefault(chained, set()).add(worker)

    def match(self, tokens: bytes) -> dict[WorkerId, int]:
        found: dict[WorkerId, int] = {}
        digest, holders = xxhash.xxh3_64_intdigest, self._holders
        alive: set[WorkerId] = set()
        chained = depth = 0
        for start in range(0, len(tokens) - BLOCK_BYTES + 1, BLOCK_BYTES):
            chained = digest(tokens[start : start + BLOCK_BYTES], chained)
            here = holders.get(chained)
            if here is None:
                break
            staying = alive & here if depth else set(here)
            if len(staying) < len(alive):
                found.update(dict.fromkeys(alive - staying, depth))
            alive = staying
            if not alive:
                break
            depth += 1
        found.update(dict.fromkeys(alive, depth))
        return found


def filled(data: DataSet) -> CacheMap:
    """An index as it is in service: prompts sent, most of them confirmed by events."""
    index = CacheMap(BLOCK_TOKENS, prediction_ttl_s=60.0, history_tokens=2 * WORKER_BLOCKS * BLOCK_TOKENS)
    for worker, prompt in data.prompts:
        index.sent(worker, prompt, PLAIN, 0.0)
    ingest(index, encoded(data, 32))
    rng = random.Random(2)
    for worker, prompt in rng.sample(data.prompts, PREDICTED_PROMPTS):
        index.sent(worker, prompt + _tokens(rng, 8), PLAIN, 0.0)
    index.settle()
    return index


@dataclass(frozen=True, slots=True)
class Lookup:
    p50_us: float
    p99_us: float
    reference_p50_us: float


def lookups(workers: int, worker_blocks: int, count: int) -> Lookup:
    """Times the same prompts in the index and in the dictionary, by turns, and compares their answers."""
    data = families(workers, worker_blocks)
    index, reference = filled(data), HashDictionary(data)
    mine: list[float] = []
    theirs: list[float] = []
    for _, prompt in random.Random(3).choices(data.prompts, k=count):
        asked = prompt + b"\0\0\0\0"  # one token more: an engine never reuses a whole prompt
        seconds, held = timed(partial(index.match, asked, PLAIN, 1.0))
        mine.append(seconds * 1e6)
        seconds, expected = timed(partial(reference.match, asked))
        theirs.append(seconds * 1e6)
        assert cached_blocks(held) == expected
    return Lookup(statistics.median(mine), statistics.quantiles(mine, n=100)[98], statistics.median(theirs))


def timed(ask: Callable[[], Answer]) -> tuple[float, Answer]:
    began = time.perf_counter()
    answer = ask()
    return time.perf_counter() - began, answer


def cached_blocks(held: dict[WorkerId, Held]) -> dict[WorkerId, int]:
    return {worker: each.cached_tokens // BLOCK_TOKENS for worker, each in held.items() if each.cached_tokens}


def ingest_rate(data: DataSet, blocks: int, repeats: int) -> float:
    """Blocks a second of one core into an empty index; the best of several runs."""
    stream = encoded(data, blocks)
    seconds = []
    for _ in range(repeats):
        gc.collect()
        seconds.append(ingest(CacheMap(BLOCK_TOKENS, 60.0, None), stream))
    return data.blocks / min(seconds)


def forgetting(data: DataSet) -> float:
    """Milliseconds to drop a worker with all its blocks; the loop stands still for so long."""
    index = filled(data)
    return statistics.median(1e3 * timed(partial(index.drop, worker))[0] for worker in data.workers)


@dataclass(frozen=True, slots=True)
class Weight:
    """Resident bytes that a full index added, a worker's block each."""

    index: float
    """All but the tokens."""
    tokens: float


def weight(worker_blocks: int) -> Weight:
    """To be called in a fresh process: what others freed there would be used again and not seen."""
    data = families(8, worker_blocks)
    stream = encoded(data, 32)
    index = CacheMap(BLOCK_TOKENS, 60.0, None)
    index.apply(stream[0][0], decode(stream[0][1]).events)
    gc.collect()
    before = psutil.Process().memory_info().rss
    ingest(index, stream[1:])
    gc.collect()
    added = psutil.Process().memory_info().rss - before
    tokens = index.size().token_bytes
    return Weight((added - tokens) / data.blocks, tokens / data.blocks)


def measure(quick: bool) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        weighed, grown = fresh.map(weight, (WORKER_BLOCKS, JUST_GROWN_BLOCKS), chunksize=1)
    data = families(8, WORKER_BLOCKS)
    single = families(8, QUICK_WORKER_BLOCKS) if quick else data
    figures = {
        "ingest_32_blocks_per_event_blocks_per_s": ingest_rate(data, 32, 3),
        "ingest_1_blocks_per_event_blocks_per_s": ingest_rate(single, 1, 1 if quick else 3),
        "bytes_per_worker_block": weighed.index,
        "bytes_per_worker_block_just_grown": grown.index,
        "token_bytes_per_worker_block": weighed.tokens,
        "drop_20000_blocks_ms": forgetting(data),
    }
    for workers in (8, 64):
        lookup = lookups(workers, QUICK_WORKER_BLOCKS if quick else WORKER_BLOCKS, 1000 if quick else 4000)
        name = f"lookup_450_blocks_{workers}_workers"
        figures[f"{name}_p50_us"] = lookup.p50_us
        figures[f"{name}_p99_us"] = lookup.p99_us
        figures[f"{name}_hash_dictionary_p50_us"] = lookup.reference_p50_us
        figures[f"{name}_vs_hash_dictionary"] = lookup.p50_us / lookup.reference_p50_us
    return figures


BARS = {
    "lookup_450_blocks_8_workers_vs_hash_dictionary": "<= 0.1",
    "lookup_450_blocks_64_workers_vs_hash_dictionary": "<= 0.1",
    "ingest_32_blocks_per_event_blocks_per_s": ">= 500,000",
    "bytes_per_worker_block": "goal 130",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the blocks and of the lookups")
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    wanted = parser.parse_args()
    figures = {name: round(value, 4 if value < 10 else 1) for name, value in measure(wanted.quick).items()}
    table = Table("figure", "value", "bar", title="Prefix index, data set families-40")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}", BARS.get(name, ""))
    Console().print(table)
    if wanted.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()

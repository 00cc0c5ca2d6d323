"""Is the index quick and small enough to ask on every request, and to follow every engine?

python -m benchmarks.index [--quick] [--json]

Data set `families-40` (seeded): 40 families of prompts; a prompt is 450 blocks of 16 tokens, the first 300 shared by
its family, the last 150 its own. Each family lives on a quarter of the workers, each worker holds about 20,000 blocks;
each engine hashes with its own seed. Lookups ask all three layers: prompts were sent through the index, so its history
is full, and some are still predicted.

Beside it, on the same prompts and by turns: the ordinary way, hashes in a dictionary, and Dynamo's RadixTree from
Python (`python -m benchmarks.peers` brings it), in a process of its own that times itself. Both know the events only.
Dynamo is given the hashes of the prompt's blocks, its time is that of `find_matches` and `scores`, which includes a hop
to the thread that owns the tree. Each side has made its question (tokens, hashes) right before it asks, untimed.
"""

import argparse
import gc
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from kvpool_router.index.answers import Held
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.workers import WorkerId
from rich.console import Console
from rich.table import Table

from benchmarks.index_rig.dynamo import Dynamo
from benchmarks.index_rig.families import (
    BLOCK_BYTES,
    BLOCK_TOKENS,
    PLAIN,
    WORKER_BLOCKS,
    DataSet,
    Stretch,
    encoded,
    families,
    filled,
    ingest,
    messages,
    random_hashes,
    random_tokens,
)
from benchmarks.index_rig.hash_dictionary import HashDictionary
from benchmarks.index_rig.memory import growth, weight
from benchmarks.peers import DYNAMO

QUICK_WORKER_BLOCKS = 5_000
HEAVIEST_BLOCKS = (20_000, 22_000)
"""One dictionary for a worker's blocks would have doubled between the two."""
ROUND = 25
"""Lookups in a row on one side, so that neither asks with cold caches."""
LONG_PROMPT_BLOCKS, LONG_PROMPT_WORKERS = 3_750, 96
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Times:
    """Microseconds of each lookup of one side, a list a round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        return [each for times in self.rounds for each in times]

    @property
    def p50(self) -> float:
        return statistics.median(self.all)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.all, n=100)[98]

    def times_faster_than(self, other: "Times") -> float:
        """The median over the rounds of the ratio of their medians: what a neighbour does to both falls out."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(statistics.median(theirs) / statistics.median(mine) for mine, theirs in pairs)


def timed(ask: Callable[[], Answer]) -> tuple[float, Answer]:
    began = time.perf_counter()
    answer = ask()
    return time.perf_counter() - began, answer


def cached_blocks(held: dict[WorkerId, Held]) -> dict[WorkerId, int]:
    return {worker: each.cached_tokens // BLOCK_TOKENS for worker, each in held.items() if each.cached_tokens}


@dataclass(slots=True)
class Lookups:
    """The same prompts asked of each side by turns; their answers agree."""

    mine: Times = field(default_factory=Times)
    hashed: Times = field(default_factory=Times)
    dynamo: Times = field(default_factory=Times)


def lookups(workers: int, worker_blocks: int, count: int) -> Lookups:
    data = families(workers, worker_blocks)
    index, hashed, found = filled(data), HashDictionary(data), Lookups()
    prompts = [prompt for _, prompt in random.Random(3).choices(data.prompts, k=count)]

    def asked(number: int) -> bytes:
        """With one token more, since an engine never reuses a whole prompt; made at once, as a tokenizer would."""
        return prompts[number] + b"\0\0\0\0"

    with ExitStack() as stack:
        dynamo = stack.enter_context(Dynamo(data, prompts)) if DYNAMO.is_here else None
        for first in range(0, count, ROUND):
            these = range(first, min(first + ROUND, count))
            answers = [timed(partial(index.match, asked(number), PLAIN, 1.0)) for number in these]
            expected = [cached_blocks(held) for _, held in answers]
            found.mine.rounds.append([seconds * 1e6 for seconds, _ in answers])
            ordinary = [timed(partial(hashed.match, asked(number))) for number in these]
            assert [blocks for _, blocks in ordinary] == expected
            found.hashed.rounds.append([seconds * 1e6 for seconds, _ in ordinary])
            if dynamo is not None:
                told = dynamo.ask(these)
                assert [blocks for _, blocks in told] == expected
                found.dynamo.rounds.append([seconds * 1e6 for seconds, _ in told])
    return found


def long_lookups(count: int) -> Times:
    """Every worker holds a part of each of a few long prompts, to its own length."""
    rng = random.Random(5)
    workers = [WorkerId(f"pod-{number}", 0) for number in range(LONG_PROMPT_WORKERS)]
    prompts = [random_tokens(rng, LONG_PROMPT_BLOCKS) for _ in range(2)]
    index = CacheMap(BLOCK_TOKENS, 60.0, None)
    for worker in workers:
        for prompt in prompts:
            hashes = random_hashes(rng, rng.choice((LONG_PROMPT_BLOCKS, rng.randrange(1, LONG_PROMPT_BLOCKS))))
            stretch = Stretch(worker, None, hashes, prompt[: len(hashes) * BLOCK_BYTES])
            ingest(index, [(worker, payload) for payload in messages(stretch, 32)])
    asked = [prompt + b"\0\0\0\0" for prompt in prompts]
    times = Times()
    for number in range(count):
        seconds, held = timed(partial(index.match, asked[number % 2], PLAIN, 1.0))
        assert len(held) == LONG_PROMPT_WORKERS
        times.rounds.append([seconds * 1e6])
    return times


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


def handing_on(data: DataSet) -> dict[str, float]:
    """To dump all workers and apply the dumps to an empty index; and the longest single step of a dump."""
    index, other = filled(data), CacheMap(BLOCK_TOKENS, 60.0, None)
    steps: list[float] = []
    began = time.process_time()
    for worker in data.workers:
        seconds, dump = timed(partial(index.dump, worker))
        steps.append(seconds)
        while True:
            seconds, events = timed(partial(next, dump, None))
            steps.append(seconds)
            if events is None:
                break
            other.apply(worker, events)
    rate = data.blocks / (time.process_time() - began)
    assert [other.blocks(worker) for worker in data.workers] == [index.blocks(worker) for worker in data.workers]
    return {"dump_and_load_blocks_per_s": rate, "dump_longest_step_ms": 1e3 * max(steps)}


def compared(workers: int, worker_blocks: int, count: int) -> dict[str, float]:
    found = lookups(workers, worker_blocks, count)
    name = f"lookup_450_blocks_{workers}_workers"
    figures = {
        f"{name}_p50_us": found.mine.p50,
        f"{name}_p99_us": found.mine.p99,
        f"{name}_hash_dictionary_p50_us": found.hashed.p50,
        f"{name}_vs_hash_dictionary": 1 / found.mine.times_faster_than(found.hashed),
    }
    if found.dynamo.rounds:
        figures[f"{name}_dynamo_p50_us"] = found.dynamo.p50
        figures[f"{name}_times_faster_than_dynamo"] = found.mine.times_faster_than(found.dynamo)
    return figures


def measure(quick: bool) -> dict[str, float]:
    worker_blocks = QUICK_WORKER_BLOCKS if quick else WORKER_BLOCKS
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        weighed = fresh.map(weight, HEAVIEST_BLOCKS, chunksize=1)
        grown = fresh.map(growth, (worker_blocks,), chunksize=1)[0]
    data = families(8, worker_blocks)
    figures = {
        "ingest_32_blocks_per_event_blocks_per_s": ingest_rate(data, 32, 3),
        "ingest_1_block_per_event_blocks_per_s": ingest_rate(data, 1, 1 if quick else 3),
        "bytes_per_worker_block": max(each.index for each in weighed),
        "token_bytes_per_worker_block": weighed[0].tokens,
        "rss_after_10_turnovers_ratio": grown,
        f"drop_{worker_blocks}_blocks_ms": forgetting(data),
        **handing_on(data),
    }
    for workers in (8, 64):
        figures |= compared(workers, worker_blocks, 1000 if quick else 4000)
    long = long_lookups(200 if quick else 1000)
    name = f"lookup_{LONG_PROMPT_BLOCKS}_blocks_{LONG_PROMPT_WORKERS}_workers"
    return figures | {f"{name}_p50_us": long.p50, f"{name}_p99_us": long.p99}


BARS = {
    "lookup_450_blocks_8_workers_vs_hash_dictionary": "<= 0.1",
    "lookup_450_blocks_64_workers_vs_hash_dictionary": "<= 0.1",
    "lookup_450_blocks_8_workers_times_faster_than_dynamo": ">= 3",
    "lookup_450_blocks_64_workers_times_faster_than_dynamo": ">= 3",
    "lookup_3750_blocks_96_workers_p50_us": "<= 1,000",
    "ingest_32_blocks_per_event_blocks_per_s": ">= 800,000",
    "bytes_per_worker_block": "<= 120",
    "rss_after_10_turnovers_ratio": "<= 1.05",
}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4 if value < 10 else 1) for name, value in figures.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the blocks and of the lookups")
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    wanted = parser.parse_args(arguments)
    figures = rounded(measure(wanted.quick))
    table = Table("figure", "value", "bar", title="Prefix index, data set families-40")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}", BARS.get(name, ""))
    Console().print(table)
    if not DYNAMO.is_here:
        print("Dynamo is not on this machine: python -m benchmarks.peers brings it.")
    if wanted.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()

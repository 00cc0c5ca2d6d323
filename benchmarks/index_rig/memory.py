"""What an index weighs, and whether it stays so. Each to be called in a fresh process: what others freed there would be
used again and not seen."""

import gc
import random
from collections import deque
from dataclasses import dataclass

import psutil
from kvpool_router.events.wire import BlockRemoved, BlockStored, TokenIds, decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.workers import WorkerId

from benchmarks.index_rig.families import (
    BLOCK_BYTES,
    BLOCK_TOKENS,
    OWN_BLOCKS,
    PLAIN,
    SHARED_BLOCKS,
    encoded,
    families,
    ingest,
    random_hashes,
    random_tokens,
)

WORKERS = 8


@dataclass(frozen=True, slots=True)
class Weight:
    """Resident bytes that a full index added, a worker's block each."""

    index: float
    """All but the tokens."""
    tokens: float


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def weight(worker_blocks: int) -> Weight:
    data = families(WORKERS, worker_blocks)
    stream = encoded(data, 32)
    index = CacheMap(BLOCK_TOKENS, 60.0, None)
    index.apply(stream[0][0], decode(stream[0][1]).events)
    before = resident()
    ingest(index, stream[1:])
    added = resident() - before
    tokens = index.size().token_bytes
    return Weight((added - tokens) / data.blocks, tokens / data.blocks)


class Churn:
    """Workers that serve ever new prompts and evict the oldest, as engines do: the end of a prompt first."""

    def __init__(self, worker_blocks: int) -> None:
        self.index = CacheMap(BLOCK_TOKENS, 60.0, 2 * worker_blocks * BLOCK_TOKENS)
        self._rng = random.Random(4)
        self._worker_blocks = worker_blocks
        self._held: dict[WorkerId, deque[list[int]]] = {WorkerId(f"pod-{n}", 0): deque() for n in range(WORKERS)}
        self._now = 0.0

    def turn_over(self) -> None:
        """Replaces every block of every worker once."""
        rng = self._rng
        for _ in range(self._worker_blocks // (SHARED_BLOCKS + OWN_BLOCKS)):
            shared = random_tokens(rng, SHARED_BLOCKS)
            for worker, held in self._held.items():
                self._now += 0.1
                count = SHARED_BLOCKS + rng.randrange(2 * OWN_BLOCKS)
                tokens = shared + random_tokens(rng, count - SHARED_BLOCKS)
                hashes = random_hashes(rng, count)
                self.index.sent(worker, tokens, PLAIN, self._now)
                self.index.apply(worker, list(_stored(hashes, tokens)))
                held.append(hashes)
                while sum(map(len, held)) > self._worker_blocks:
                    self.index.apply(worker, [BlockRemoved([key], "GPU", 0) for key in reversed(held.popleft())])


def _stored(hashes: list[int], tokens: bytes, blocks: int = 32) -> list[BlockStored]:
    return [
        BlockStored(
            hashes[start : start + blocks],
            hashes[start - 1] if start else None,
            TokenIds(tokens[start * BLOCK_BYTES : (start + blocks) * BLOCK_BYTES]),
            BLOCK_TOKENS,
            medium="GPU",
            group_idx=0,
        )
        for start in range(0, len(hashes), blocks)
    ]


def growth(worker_blocks: int) -> float:
    """Resident memory after the block set has turned over ten times, in what it was after it was full and did so once.

    Of the whole process, which is little more than the index.
    """
    churn = Churn(worker_blocks)
    for _ in range(2):
        churn.turn_over()
    before = resident()
    for _ in range(10):
        churn.turn_over()
    return resident() / before

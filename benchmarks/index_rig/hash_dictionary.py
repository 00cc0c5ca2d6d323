"""The ordinary way to know who holds which prefix."""

import xxhash
from kvpool_router.workers import WorkerId

from benchmarks.index_rig.families import BLOCK_BYTES, DataSet


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

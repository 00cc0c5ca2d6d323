"""What workers will hold soon: prompts just sent, until an event confirms them or time runs out."""

from collections import OrderedDict, defaultdict
from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import TOKEN_BYTES, Reach
from kvpool_router.index.trails import Trail, TrailTree


class _Pending(NamedTuple):
    stamp: int
    expires: float
    blocks: int


class Predictions:
    """A layer of its own above the map, so that what engines said is never mixed with what we expect.

    A prediction ends when its last whole block is stored (from then on the map knows better, evictions included), when
    the engine's cache is cleared, or after the time to live. Without events it is all there is.
    """

    def __init__(self, block_tokens: int, ttl_s: float) -> None:
        self._block = block_tokens * TOKEN_BYTES
        self._ttl_s = ttl_s
        self._tree = TrailTree(block_tokens)
        self._pending: OrderedDict[tuple[int, Trail], _Pending] = OrderedDict()
        self._by_length: defaultdict[int, defaultdict[int, set[Trail]]] = defaultdict(lambda: defaultdict(set))
        """Bit -> blocks of the prompt -> last runs: what an event may confirm."""
        self._stamp = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, bit: int, tokens: bytes, namespace: Namespace, now: float) -> None:
        """The prompt (at least one whole block) was sent to the worker."""
        self.expire(now)
        self._stamp += 1
        last, _ = self._tree.mark(bit, tokens, namespace, self._stamp)
        blocks = len(tokens) // self._block
        self._pending[bit, last] = _Pending(self._stamp, now + self._ttl_s, blocks)
        self._pending.move_to_end((bit, last))
        self._by_length[bit][blocks].add(last)

    def confirm(self, bit: int, start: int, tokens: bytes) -> None:
        """The worker has stored these blocks, the first of which is block `start` of its prompt."""
        lengths = self._by_length.get(bit)
        if lengths is None:
            return
        end = start + len(tokens) // self._block
        for blocks in [blocks for blocks in lengths if start < blocks <= end]:
            stored = tokens[: (blocks - start) * self._block]
            for last in [last for last in lengths[blocks] if _ends_alike(last.tokens, stored)]:
                self._end(bit, last)

    def expire(self, now: float) -> None:
        while self._pending:
            (bit, last), pending = next(iter(self._pending.items()))
            if pending.expires > now:
                break
            self._end(bit, last)

    def forget(self, bit: int) -> None:
        for last in [last for lasts in self._by_length.get(bit, {}).values() for last in lasts]:
            self._end(bit, last)

    def match(self, tokens: bytes, namespace: Namespace, eligible: int, now: float) -> list[Reach]:
        self.expire(now)
        return self._tree.match(tokens, namespace, eligible)

    def _end(self, bit: int, last: Trail) -> None:
        pending = self._pending.pop((bit, last))
        self._tree.unmark(bit, last, pending.stamp)
        lengths = self._by_length[bit]
        lengths[pending.blocks].discard(last)
        if not lengths[pending.blocks]:
            del lengths[pending.blocks]
        if not lengths:
            del self._by_length[bit]


def _ends_alike(one: bytes, other: bytes) -> bool:
    """Whether two stretches of tokens that end at the same place agree where they overlap."""
    overlap = min(len(one), len(other))
    return one[len(one) - overlap :] == other[len(other) - overlap :]

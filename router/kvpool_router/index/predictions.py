"""What workers will hold soon: prompts just sent, until an event confirms them or time runs out."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import LONGEST_RUN_BLOCKS, TOKEN_BYTES, Reach
from kvpool_router.index.trails import Trail, TrailTree


class Sent(NamedTuple):
    """A prompt that a worker was sent, by its last run."""

    bit: int
    last: Trail


class _Pending(NamedTuple):
    stamp: int
    expires: float
    blocks: int
    namespace: Namespace


class Predictions:
    """A layer of its own above the map, so that what engines said is never mixed with what we expect.

    A prediction ends when its last whole block is stored (from then on the map knows better, evictions included), when
    the engine's cache is cleared, or after the time to live. Without events it is all there is.
    """

    def __init__(self, block_tokens: int, ttl_s: float, longest_run: int = LONGEST_RUN_BLOCKS) -> None:
        self._block = block_tokens * TOKEN_BYTES
        self._ttl_s = ttl_s
        self._tree = TrailTree(block_tokens, longest_run)
        self._pending: OrderedDict[Sent, _Pending] = OrderedDict()
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
        sent = Sent(bit, last)
        self._pending[sent] = _Pending(self._stamp, now + self._ttl_s, blocks, namespace)
        self._pending.move_to_end(sent)
        self._by_length[bit][blocks].add(last)

    def ending_in(self, bit: int, start: int, tokens: bytes) -> Iterator[Sent]:
        """The worker's prompts whose last whole block is among these, the first of which is its prompt's block `start`.

        That may still be another prompt's block of the same tokens.
        """
        lengths = self._by_length.get(bit)
        if lengths is None:
            return
        end = start + len(tokens) // self._block
        for blocks in [blocks for blocks in lengths if start < blocks <= end]:
            block = tokens[(blocks - start - 1) * self._block : (blocks - start) * self._block]
            yield from [Sent(bit, last) for last in lengths[blocks] if last.tokens.endswith(block)]

    def prompt(self, sent: Sent) -> tuple[bytes, Namespace]:
        """The prompt's whole blocks."""
        return self._tree.path(sent.last), self._pending[sent].namespace

    def end(self, sent: Sent) -> None:
        """The prediction has come true, or will not."""
        pending = self._pending.pop(sent)
        self._tree.unmark(*sent, pending.stamp)
        lengths = self._by_length[sent.bit]
        lengths[pending.blocks].discard(sent.last)
        if not lengths[pending.blocks]:
            del lengths[pending.blocks]
        if not lengths:
            del self._by_length[sent.bit]

    def expire(self, now: float) -> None:
        while self._pending:
            sent, pending = next(iter(self._pending.items()))
            if pending.expires > now:
                break
            self.end(sent)

    def forget(self, bit: int) -> None:
        for last in [last for lasts in self._by_length.get(bit, {}).values() for last in lasts]:
            self.end(Sent(bit, last))

    def match(self, tokens: bytes, namespace: Namespace, eligible: int, now: float) -> list[Reach]:
        self.expire(now)
        return self._tree.match(tokens, namespace, eligible)

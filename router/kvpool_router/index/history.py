"""What workers were sent within about their last two cache sizes, whether or not they hold it still."""

from collections import OrderedDict

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import LONGEST_RUN_BLOCKS, Reach
from kvpool_router.index.trails import Trail, TrailTree


class _Memory:
    """One worker's prompts, oldest first, by the last run of each."""

    __slots__ = ("blocks", "limit", "prompts")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.blocks = 0
        self.prompts: OrderedDict[Trail, int] = OrderedDict()


class History:
    """A bounded memory of where prefixes belonged.

    An exact map knows that a prefix is gone everywhere and then spreads it by load, so that under churn every cache
    fills with the same. Remembering where it was keeps the working set divided.

    Least recently sent goes first, a prompt at a time, as far as no later prompt shares it. The cost of a prompt is one
    walk over its runs.
    """

    def __init__(self, block_tokens: int, tokens: int | None, longest_run: int = LONGEST_RUN_BLOCKS) -> None:
        self._block_tokens = block_tokens
        self._default = (tokens or 0) // block_tokens
        self._tree = TrailTree(block_tokens, longest_run)
        self._memories: dict[int, _Memory] = {}
        self._stamp = 0

    def bound(self, bit: int, tokens: int) -> None:
        """Sets how much of the worker is remembered."""
        memory = self._memory(bit)
        memory.limit = tokens // self._block_tokens
        self._shrink(bit, memory)

    def add(self, bit: int, tokens: bytes, namespace: Namespace) -> None:
        """The prompt (at least one whole block) was sent to the worker."""
        memory = self._memory(bit)
        if not memory.limit:
            return
        self._stamp += 1
        last, fresh = self._tree.mark(bit, tokens, namespace, self._stamp)
        memory.blocks += fresh
        memory.prompts[last] = self._stamp
        memory.prompts.move_to_end(last)
        self._shrink(bit, memory)

    def blocks(self, bit: int) -> int:
        return self._memory(bit).blocks

    def match(self, tokens: bytes, namespace: Namespace, eligible: int) -> list[Reach]:
        return self._tree.match(tokens, namespace, eligible)

    def forget(self, bit: int) -> None:
        memory = self._memories.pop(bit, None)
        if memory is not None:
            memory.limit = 0
            self._shrink(bit, memory)

    def _memory(self, bit: int) -> _Memory:
        memory = self._memories.get(bit)
        if memory is None:
            memory = self._memories[bit] = _Memory(self._default)
        return memory

    def _shrink(self, bit: int, memory: _Memory) -> None:
        while memory.blocks > memory.limit:
            last, stamp = memory.prompts.popitem(last=False)
            memory.blocks -= self._tree.unmark(bit, last, stamp)

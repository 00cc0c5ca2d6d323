"""What workers were sent within about their last two cache sizes, whether or not they hold it still."""

from collections import OrderedDict

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import TOKEN_BYTES, Run, RunTree
from kvpool_router.index.trails import mark, unmark


class _Memory:
    """One worker's prompts, oldest first, by the last run of each."""

    __slots__ = ("blocks", "limit", "prompts")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.blocks = 0
        self.prompts: OrderedDict[Run, int] = OrderedDict()


class History:
    """A bounded memory of where prefixes belonged.

    An exact map knows that a prefix is gone everywhere and then spreads it by load, so that under churn every cache
    fills with the same. Remembering where it was keeps the working set divided.

    Least recently sent goes first, a prompt at a time, as far as no later prompt shares it. The cost of a prompt is one
    walk over its runs.
    """

    def __init__(self, runs: RunTree, tokens: int | None) -> None:
        self._runs = runs
        self._block_tokens = runs.block_bytes // TOKEN_BYTES
        self._default = (tokens or 0) // self._block_tokens
        self._memories: dict[int, _Memory] = {}
        self._stamp = 0

    def bound(self, seat: int, tokens: int) -> None:
        """Sets how much of the worker is remembered."""
        memory = self._memory(seat)
        memory.limit = tokens // self._block_tokens
        self._shrink(seat, memory)

    def add(self, seat: int, tokens: bytes, namespace: Namespace) -> None:
        """The prompt (at least one whole block) was sent to the worker."""
        memory = self._memory(seat)
        if not memory.limit:
            return
        self._stamp += 1
        last, fresh = mark(self._runs, seat, tokens, namespace, self._stamp)
        memory.blocks += fresh
        memory.prompts[last] = self._stamp
        memory.prompts.move_to_end(last)
        self._shrink(seat, memory)

    def forget(self, seat: int) -> None:
        memory = self._memories.pop(seat, None)
        if memory is not None:
            memory.limit = 0
            self._shrink(seat, memory)

    def _memory(self, seat: int) -> _Memory:
        memory = self._memories.get(seat)
        if memory is None:
            memory = self._memories[seat] = _Memory(self._default)
        return memory

    def _shrink(self, seat: int, memory: _Memory) -> None:
        while memory.blocks > memory.limit:
            last, stamp = memory.prompts.popitem(last=False)
            memory.blocks -= unmark(self._runs, seat, last, stamp)

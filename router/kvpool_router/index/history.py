"""What workers were sent within about their last two cache sizes, whether or not they hold it still."""

from collections import OrderedDict
from collections.abc import Iterator

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import SIGNPOST, TOKEN_BYTES, Run, RunTree
from kvpool_router.index.trails import lay, upward


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

    Least recently sent goes first, a prompt at a time. Each prompt marks the runs of its path by its number, so a run's
    mark is never older than those below it, and a prompt is undone by climbing from its end for as long as the mark is
    its own. Both cost a step a run, whatever the prompt's length.
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

    def limit(self, seat: int) -> int:
        """How much of the worker is remembered, in tokens."""
        return self._memory(seat).limit * self._block_tokens

    def add(self, seat: int, tokens: bytes, namespace: Namespace) -> None:
        """The prompt (at least one whole block) was sent to the worker."""
        memory = self._memory(seat)
        if not memory.limit:
            return
        self._stamp += 1
        last = lay(self._runs, tokens, namespace)
        for run in upward(last):
            memory.blocks += 0 if seat in run.marks else run.length
            run.mark(seat, self._stamp)
        memory.prompts[last] = self._stamp
        memory.prompts.move_to_end(last)
        self._shrink(seat, memory)

    def remembered(self, seat: int) -> Iterator[tuple[bytes, Namespace]]:
        """What `add` needs to remember the same, oldest first; a prompt a step, as long as it is remembered still."""
        memory = self._memory(seat)
        for last, stamp in tuple(memory.prompts.items()):
            if memory.prompts.get(last) == stamp and last.at(SIGNPOST - 1).marks.get(seat) == stamp:
                *_, first = upward(last)
                yield self._runs.path(last), self._runs.namespace(first.parent)

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
            memory.blocks -= self._undo(seat, last, stamp)

    def _undo(self, seat: int, last: Run, stamp: int) -> int:
        """Takes the seat off a prompt's runs where no later prompt came along; returns the blocks that it lost."""
        lost = 0
        for run in upward(last):
            if run.marks.get(seat) != stamp:
                break
            run.unmark(seat)
            lost += run.length
        if lost:
            self._runs.tidy(last.at(SIGNPOST - 1))
        return lost

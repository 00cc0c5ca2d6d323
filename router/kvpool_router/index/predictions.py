"""What workers will hold soon: prompts just sent, until an event confirms them or time runs out."""

import math
from collections import OrderedDict, defaultdict
from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import SIGNPOST, Run, RunTree
from kvpool_router.index.trails import lay, upward


class Sent(NamedTuple):
    """A prompt that a worker was sent, by its last run."""

    seat: int
    last: Run


class _Pending(NamedTuple):
    expires: float
    blocks: int
    namespace: Namespace
    requests: int
    """That were sent the prompt since the prediction began, less those withdrawn."""


class Predictions:
    """A layer of its own above the map, so that what engines said is never mixed with what we expect.

    A prediction ends when its last whole block is stored (from then on the map knows better, evictions included), when
    the engine's cache is cleared, or after the time to live. Without events it is all there is. Predictions end in any
    order and share runs, so a run's mark is the number of a worker's predictions that need it.
    """

    def __init__(self, runs: RunTree, ttl_s: float) -> None:
        self._runs = runs
        self._block = runs.block_bytes
        self._ttl_s = ttl_s
        self._pending: OrderedDict[Sent, _Pending] = OrderedDict()
        self._by_length: defaultdict[int, defaultdict[int, set[Run]]] = defaultdict(lambda: defaultdict(set))
        """Seat -> blocks of the prompt -> last runs: what an event may confirm."""
        self.first_expires = math.inf
        """`expire` has nothing to do before."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, seat: int, tokens: bytes, namespace: Namespace, now: float) -> None:
        """The prompt (at least one whole block) was sent to the worker."""
        self.expire(now)
        sent = Sent(seat, lay(self._runs, tokens, namespace))
        before = self._pending.get(sent)
        if before is None:
            for run in upward(sent.last):
                run.mark(seat, run.marks.get(seat, 0) + 1)
        blocks = len(tokens) // self._block
        requests = 1 if before is None else before.requests + 1
        self._pending[sent] = _Pending(now + self._ttl_s, blocks, namespace, requests)
        self._pending.move_to_end(sent)
        self._by_length[seat][blocks].add(sent.last)
        self.first_expires = min(self.first_expires, now + self._ttl_s)

    def withdraw(self, seat: int, tokens: bytes, namespace: Namespace) -> None:
        """One of the requests that were sent this prompt will not be computed; the last of them ends the prediction.

        Which prediction the request began is not kept: where that one is over, a later one of the prompt loses a
        request and may end too early. One that others still need keeps the time that the latest of all has given it.
        """
        blocks = len(tokens) // self._block
        whole = tokens[: blocks * self._block]
        lengths = self._by_length.get(seat)
        for last in () if lengths is None else lengths.get(blocks, ()):
            sent = Sent(seat, last)
            if whole.endswith(last.tokens) and self.prompt(sent) == (whole, namespace):
                pending = self._pending[sent]
                if pending.requests > 1:
                    self._pending[sent] = pending._replace(requests=pending.requests - 1)
                else:
                    self.end(sent)
                return

    def ending_in(self, seat: int, start: int, tokens: bytes) -> list[Sent]:
        """The worker's prompts whose last whole block is among these, the first of which is its prompt's block `start`.

        That may still be another prompt's block of the same tokens.
        """
        lengths = self._by_length.get(seat)
        if lengths is None:
            return []
        end = start + len(tokens) // self._block
        found = []
        for blocks in [blocks for blocks in lengths if start < blocks <= end]:
            block = tokens[(blocks - start - 1) * self._block : (blocks - start) * self._block]
            found += [Sent(seat, last) for last in lengths[blocks] if last.tokens.endswith(block)]
        return found

    def prompt(self, sent: Sent) -> tuple[bytes, Namespace]:
        """The prompt's whole blocks."""
        return self._runs.path(sent.last), self._pending[sent].namespace

    def end(self, sent: Sent) -> None:
        """The prediction has come true, or will not."""
        pending = self._pending.pop(sent)
        for run in upward(sent.last):
            if run.marks[sent.seat] == 1:
                run.unmark(sent.seat)
            else:
                run.mark(sent.seat, run.marks[sent.seat] - 1)
        self._runs.tidy(sent.last.at(SIGNPOST - 1))
        lengths = self._by_length[sent.seat]
        lengths[pending.blocks].discard(sent.last)
        if not lengths[pending.blocks]:
            del lengths[pending.blocks]
        if not lengths:
            del self._by_length[sent.seat]

    def expire(self, now: float) -> None:
        """Ends what is due: the oldest first, since the time to live is the same for all."""
        while now >= self.first_expires:
            sent, pending = next(iter(self._pending.items()), (None, None))
            self.first_expires = pending.expires if pending else math.inf
            if sent and now >= self.first_expires:
                self.end(sent)

    def forget(self, seat: int) -> None:
        for last in [last for lasts in self._by_length.get(seat, {}).values() for last in lasts]:
            self.end(Sent(seat, last))

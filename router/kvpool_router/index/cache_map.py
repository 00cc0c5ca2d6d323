"""The door to the index: events and sent prompts in, what each worker can reuse of a prompt out."""

from collections.abc import Iterator, Sequence

from kvpool_router.events.wire import KvEvent
from kvpool_router.index.answers import Applied, Held, Size
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import LONGEST_RUN_BLOCKS
from kvpool_router.index.sized_map import SizedMap, named_size
from kvpool_router.index.tiers import Tier
from kvpool_router.index.watches import Watch
from kvpool_router.workers import WorkerId


class CacheMap:
    """Which worker holds which prefix. One thread; no clock: `now` is in seconds of any clock that never goes back.

    Three layers answer together: the tree (what engines said), predictions (what was just sent and not yet confirmed)
    and the history. Tokens travel as little-endian uint32.

    Credit errs to less: vLLM announces each copy of a block when it is stored and when it is removed, so a block counts
    once however often it is stored, and until its last copy is removed. Each event must be applied exactly once.

    A worker is kept in blocks of its engine's size, whatever that is: there is a map for each size among the workers,
    which is one unless a rollout is changing it. Until its first event a worker is taken to have the pool's.
    """

    def __init__(
        self,
        block_tokens: int,
        prediction_ttl_s: float,
        history_tokens: int | None,
        longest_run: int = LONGEST_RUN_BLOCKS,
    ) -> None:
        self._prediction_ttl_s = prediction_ttl_s
        self._history_tokens = history_tokens
        self._longest_run = longest_run
        self._distrusted: set[WorkerId] = set()
        self._usual = self._map_for(block_tokens)
        self._maps = {block_tokens: self._usual}
        self._unusual: dict[WorkerId, SizedMap] = {}
        """The workers that are not in the usual map."""

    def apply(self, worker: WorkerId, events: Sequence[KvEvent]) -> Applied:
        """Applies events in the order in which the worker published them."""
        here = self._of(worker)
        if not here.has_told(worker) and named_size(events) not in (None, here.block_tokens):
            here = self._move(worker, events)
        return here.apply(worker, events)

    def sent(self, worker: WorkerId, tokens: bytes, namespace: Namespace, now: float) -> None:
        """The prompt was sent to the worker, which will hold its whole blocks before long.

        Only noted, since the request itself still waits to go out; the next question finds it booked.
        """
        self._of(worker).sent(worker, tokens, namespace, now)

    def unsent(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None:
        """Takes one `sent` back: the worker will not compute the prompt after all.

        Its prediction ends, unless another request was sent the same prompt since it began. The history stays.
        """
        self._of(worker).unsent(worker, tokens, namespace)

    def settle(self) -> None:
        """Books what was sent, at a moment when nobody waits, so that the next question need not."""
        for each in self._maps.values():
            each.settle()

    def match(self, tokens: bytes, namespace: Namespace, now: float) -> dict[WorkerId, Held]:
        """The workers that could reuse something of the prompt.

        Never the whole prompt: an engine computes at least one token, so at most (tokens - 1) // block whole blocks.
        """
        found = self._usual.match(tokens, namespace, now)
        if self._unusual:
            for each in self._maps.values():
                if each is not self._usual:
                    found |= each.match(tokens, namespace, now)
        return found

    def workers(self) -> tuple[WorkerId, ...]:
        """All of whom anything is known."""
        return tuple(worker for each in self._maps.values() for worker in each.workers())

    def blocks(self, worker: WorkerId, tier: Tier = Tier.GPU) -> int:
        """Distinct blocks that the worker holds there by its events."""
        return self._of(worker).blocks(worker, tier)

    def block_tokens(self, worker: WorkerId) -> int:
        """Tokens of one block of its engine, as its events say."""
        return self._of(worker).block_tokens

    def size(self) -> Size:
        """Walks the whole index."""
        return Size(*map(sum, zip(*(each.size() for each in self._maps.values()), strict=True)))

    def set_history(self, worker: WorkerId, tokens: int) -> None:
        """Bounds what is remembered of the worker to `tokens`: twice its cache."""
        self._of(worker).set_history(worker, tokens)

    def history_tokens(self, worker: WorkerId) -> int:
        """How much of the worker is remembered at most."""
        return self._of(worker).history_tokens(worker)

    def remembered(self, worker: WorkerId) -> Iterator[tuple[bytes, Namespace]]:
        """The prompts that the worker's history consists of, oldest first, to be given to `remember` elsewhere."""
        return self._of(worker).remembered(worker)

    def remember(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None:
        """The worker was sent the prompt some time ago, by whomever."""
        self._of(worker).remember(worker, tokens, namespace)

    def watch(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> Watch:
        """Follows what the worker holds of a prompt by its events, credited or not, until `unwatch`.

        In blocks of its engine's size; lost where that turns out to be another than it was taken to be.
        """
        return self._of(worker).watch(worker, tokens, namespace)

    def look_away(self, worker: WorkerId, watch: Watch) -> None:
        """What the watch says stays as it is, but it is still lost with the worker's map."""
        self._of(worker).look_away(worker, watch)

    def unwatch(self, worker: WorkerId, watch: Watch) -> None:
        self._of(worker).unwatch(worker, watch)

    def is_hybrid(self, worker: WorkerId) -> bool:
        """A prefix may be of no use to the engine although the credited attention group holds it."""
        return self._of(worker).is_hybrid(worker)

    def distrust(self, worker: WorkerId) -> None:
        """No credit, cached or predicted, until `trust`, whatever else happens to the worker meanwhile."""
        self._distrusted.add(worker)
        self._of(worker).weigh()

    def trust(self, worker: WorkerId) -> None:
        self._distrusted.discard(worker)
        self._of(worker).weigh()

    def suspend(self, worker: WorkerId) -> None:
        """No credit, cached or predicted, until `resume`: its events may be missing. Nothing is forgotten."""
        self._of(worker).suspend(worker)

    def conceal(self, worker: WorkerId) -> None:
        """No credit by events until `resume`, but by predictions, those made before excepted."""
        self._of(worker).conceal(worker)

    def resume(self, worker: WorkerId) -> None:
        self._of(worker).resume(worker)

    def drop(self, worker: WorkerId) -> None:
        """Forgets the worker as if it had never been."""
        here = self._of(worker)
        here.drop(worker)
        self._unusual.pop(worker, None)
        if here is not self._usual and here.is_empty:
            del self._maps[here.block_tokens]

    def dump(self, worker: WorkerId) -> Iterator[Sequence[KvEvent]]:
        """What the worker's events said until now, as events, which `apply` to a map that has dropped the worker.

        All of it is of this moment, whatever is applied while the iterator is drawn, which may take as long as it
        likes: what a step yields takes about a millisecond to make, and may be empty. Without predictions and history.
        """
        return self._of(worker).dump(worker)

    def _of(self, worker: WorkerId) -> SizedMap:
        return self._unusual.get(worker, self._usual)

    def _map_for(self, block_tokens: int) -> SizedMap:
        return SizedMap(block_tokens, self._prediction_ttl_s, self._history_tokens, self._longest_run, self._distrusted)

    def _move(self, worker: WorkerId, events: Sequence[KvEvent]) -> SizedMap:
        """Seats a worker anew by the block size that these name; what it was sent until now is forgotten."""
        size = named_size(events)
        before = self._of(worker)
        if size is None or before.block_tokens == size:
            return before
        remembered = before.history_tokens(worker)
        suspended, concealed = before.is_suspended(worker), before.is_concealed(worker)
        self.drop(worker)
        if size not in self._maps:
            self._maps[size] = self._map_for(size)
        after = self._maps[size]
        if after is not self._usual:
            self._unusual[worker] = after
        after.set_history(worker, remembered)
        if suspended:
            after.suspend(worker)
        if concealed:
            after.conceal(worker)
        return after

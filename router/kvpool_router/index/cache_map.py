"""The door to the index: events and sent prompts in, what each worker can reuse of a prompt out."""

from collections.abc import Iterable
from typing import NamedTuple

from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from kvpool_router.index.bits import WorkerBits
from kvpool_router.index.history import History
from kvpool_router.index.namespace import Namespace, identity
from kvpool_router.index.predictions import Predictions
from kvpool_router.index.runs import LONGEST_RUN_BLOCKS, TOKEN_BYTES, Reach
from kvpool_router.index.tree import Outcome, PrefixTree
from kvpool_router.workers import WorkerId

_WHOLE_PROMPT_KINDS = frozenset({"full_attention", "mla_attention", "sink_full_attention"})
"""vLLM's `KVCacheSpecKind`s whose blocks are kept for a whole prompt; the others keep a window or a state."""


class Held(NamedTuple):
    """What one worker could reuse of a prompt, in tokens of whole blocks."""

    cached_tokens: int
    """By the engine's events."""
    predicted_tokens: int
    """By events or by prompts that were just sent there; never less than `cached_tokens`."""
    history_tokens: int
    """By events or by what was sent there in the last two cache sizes; never less than `cached_tokens`."""


class Applied(NamedTuple):
    """What events did to the map, in blocks (`cleared` in events)."""

    stored: int = 0
    removed: int = 0
    cleared: int = 0
    orphaned: int = 0
    """Stored after a block that the worker is not known to hold: no credit."""
    refused: int = 0
    """Real, but of no use to a text prompt here: another tier than GPU, another attention group, images, another block
    size, or an event that contradicts itself."""
    unknown: int = 0
    """Removed, but not known to be held."""

    def __add__(self, other: object) -> "Applied":
        if not isinstance(other, Applied):
            return NotImplemented
        return Applied(*map(sum, zip(self, other, strict=True)))


class Size(NamedTuple):
    """What the map takes, for metrics and for tests of its bounds."""

    runs: int
    token_bytes: int
    """Of the runs held by events."""
    predictions: int


class CacheMap:
    """Which worker holds which prefix. One thread; no clock: `now` is in seconds of any clock that never goes back.

    Three layers answer together: the tree (what engines said), predictions (what was just sent and not yet confirmed)
    and the history. Tokens travel as little-endian uint32.

    Credit errs to less: vLLM announces each copy of a block when it is stored and when it is removed, so a block counts
    once however often it is stored, and until its last copy is removed. Each event must be applied exactly once.
    Tiers below the GPU are not credited yet: their blocks are counted as refused.
    """

    def __init__(
        self,
        block_tokens: int,
        prediction_ttl_s: float,
        history_tokens: int | None,
        longest_run: int = LONGEST_RUN_BLOCKS,
    ) -> None:
        self._block_tokens = block_tokens
        self._bits = WorkerBits()
        self._tree = PrefixTree(block_tokens, longest_run)
        self._predictions = Predictions(block_tokens, prediction_ttl_s, longest_run)
        self._history = History(block_tokens, history_tokens, longest_run)
        self._groups: dict[int, int] = {}
        """The attention group by which a worker is credited: the first of full attention that it named."""
        self._everyone = 0
        self._suspended = 0

    def apply(self, worker: WorkerId, events: Iterable[KvEvent]) -> Applied:
        """Applies events in the order in which the worker published them."""
        bit = self._bit(worker)
        return sum((self._apply(bit, event) for event in events), Applied())

    def sent(self, worker: WorkerId, tokens: bytes, namespace: Namespace, now: float) -> None:
        """The prompt was sent to the worker, which will hold its whole blocks before long."""
        if len(tokens) < self._block_tokens * TOKEN_BYTES:
            return
        bit = self._bit(worker)
        if not self._is_held(bit, tokens, namespace):
            self._predictions.add(bit, tokens, namespace, now)
        self._history.add(bit, tokens, namespace)

    def match(self, tokens: bytes, namespace: Namespace, now: float) -> dict[WorkerId, Held]:
        """The workers that could reuse something of the prompt, best read with `.get(worker, NOTHING)`.

        Never the whole prompt: an engine computes at least one token, so at most (tokens - 1) // block whole blocks.
        """
        size = self._block_tokens * TOKEN_BYTES
        if not len(tokens) % size:
            tokens = tokens[:-size]
        trusted = self._everyone & ~self._suspended
        cells = [_Cell(self._everyone, 0, 0, 0)]
        cells = _refine(cells, self._tree.match(tokens, namespace, trusted), "cached")
        cells = _refine(cells, self._predictions.match(tokens, namespace, trusted, now), "predicted")
        cells = _refine(cells, self._history.match(tokens, namespace, self._everyone), "history")
        found: dict[WorkerId, Held] = {}
        for members, cached, predicted, history in cells:
            if cached or predicted or history:
                per = self._block_tokens
                held = Held(cached * per, max(cached, predicted) * per, max(cached, history) * per)
                found.update(dict.fromkeys(self._bits.workers(members), held))
        return found

    def blocks(self, worker: WorkerId) -> int:
        """Distinct blocks that the worker holds by its events."""
        bit = self._bits.bit(worker)
        return 0 if bit is None else self._tree.blocks(bit)

    def size(self) -> Size:
        return Size(self._tree.runs, self._tree.token_bytes, len(self._predictions))

    def set_history(self, worker: WorkerId, tokens: int) -> None:
        """Bounds what is remembered of the worker to `tokens`: twice its cache."""
        self._history.bound(self._bit(worker), tokens)

    def suspend(self, worker: WorkerId) -> None:
        """No credit, cached or predicted, until `resume`: its events may be missing. Nothing is forgotten."""
        self._suspended |= 1 << self._bit(worker)

    def resume(self, worker: WorkerId) -> None:
        self._suspended &= ~(1 << self._bit(worker))

    def drop(self, worker: WorkerId) -> None:
        """Forgets the worker as if it had never been."""
        bit = self._bits.bit(worker)
        if bit is None:
            return
        self._tree.forget(bit)
        self._predictions.forget(bit)
        self._history.forget(bit)
        self._groups.pop(bit, None)
        self._suspended &= ~(1 << bit)
        self._everyone &= ~(1 << bit)
        self._bits.release(worker)

    def _bit(self, worker: WorkerId) -> int:
        bit = self._bits.claim(worker)
        self._everyone |= 1 << bit
        return bit

    def _apply(self, bit: int, event: KvEvent) -> Applied:
        match event:
            case BlockStored():
                return self._store(bit, event)
            case BlockRemoved():
                return self._remove(bit, event)
            case AllBlocksCleared():
                return self._clear(bit, event)

    def _store(self, bit: int, event: BlockStored) -> Applied:
        count = len(event.block_hashes)
        if not count or not self._is_credited(bit, event):
            return Applied(refused=count)
        namespace, text = identity(event)
        hashes = event.block_hashes
        tokens: bytes = event.token_ids
        if text < count:
            self._tree.store_apart(bit, hashes[text:])
            hashes, tokens = hashes[:text], tokens[: text * self._block_tokens * TOKEN_BYTES]
        if not hashes:
            return Applied(refused=count)
        outcome, start = self._tree.store(bit, namespace, event.parent_block_hash, hashes, tokens)
        if outcome is Outcome.CREDITED:
            self._confirm(bit, start, tokens)
            return Applied(stored=text, refused=count - text)
        if outcome is Outcome.ORPHANED:
            return Applied(orphaned=text, refused=count - text)
        return Applied(refused=count)

    def _confirm(self, bit: int, start: int, tokens: bytes) -> None:
        """Ends the predictions that these blocks complete."""
        for sent in self._predictions.ending_in(bit, start, tokens):
            if self._is_held(bit, *self._predictions.prompt(sent)):
                self._predictions.end(sent)

    def _is_held(self, bit: int, tokens: bytes, namespace: Namespace) -> bool:
        whole = len(tokens) // (self._block_tokens * TOKEN_BYTES)
        return self._tree.reach(bit, tokens, namespace) == whole

    def _remove(self, bit: int, event: BlockRemoved) -> Applied:
        count = len(event.block_hashes)
        group = self._groups.get(bit)
        foreign_group = None not in (group, event.group_idx) and group != event.group_idx
        if foreign_group or not _on_gpu(event.medium, event.locality):
            return Applied(refused=count)
        known = self._tree.remove(bit, event.block_hashes)
        return Applied(removed=known, unknown=count - known)

    def _clear(self, bit: int, event: AllBlocksCleared) -> Applied:
        if not _on_gpu(event.medium, None):
            return Applied()
        self._tree.forget(bit)
        self._predictions.forget(bit)
        return Applied(cleared=1)

    def _is_credited(self, bit: int, event: BlockStored) -> bool:
        if not _on_gpu(event.medium, event.locality) or event.block_size != self._block_tokens:
            return False
        if len(event.token_ids) != len(event.block_hashes) * self._block_tokens * TOKEN_BYTES:
            return False
        if event.kv_cache_spec_kind is not None and event.kv_cache_spec_kind not in _WHOLE_PROMPT_KINDS:
            return False
        return event.group_idx is None or self._groups.setdefault(bit, event.group_idx) == event.group_idx


def _on_gpu(medium: str | None, locality: str | None) -> bool:
    return medium in (None, "GPU") and locality in (None, "LOCAL")


class _Cell(NamedTuple):
    """A set of workers with the blocks that each layer gives all of them."""

    members: int
    cached: int
    predicted: int
    history: int


def _refine(cells: list[_Cell], reaches: list[Reach], layer: str) -> list[_Cell]:
    """Divides each set by how far its members reach in one more layer."""
    if not reaches:
        return cells
    refined: list[_Cell] = []
    for cell in cells:
        rest = cell.members
        for members, blocks in reaches:
            both = rest & members
            if both:
                rest ^= both
                refined.append(cell._replace(members=both, **{layer: blocks}))
        if rest:
            refined.append(cell._replace(members=rest))
    return refined

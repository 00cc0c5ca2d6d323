"""The door to the index: events and sent prompts in, what each worker can reuse of a prompt out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from kvpool_router.index.history import History
from kvpool_router.index.namespace import Namespace, identity
from kvpool_router.index.predictions import Predictions
from kvpool_router.index.runs import LONGEST_RUN_BLOCKS, TOKEN_BYTES, Reach, RunTree
from kvpool_router.index.seats import Layer, Seats
from kvpool_router.index.tree import Outcome, PrefixTree
from kvpool_router.index.watches import Watch, Watches
from kvpool_router.workers import WorkerId

_HELD, _EXPECTED, _KNOWN = (int(layer) for layer in Layer)
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
    reachable_tokens: int
    """As `predicted_tokens`, and on from there what the engine could load from tiers below its GPU."""


@dataclass(slots=True)
class Applied:
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


class Size(NamedTuple):
    """What the map takes, for metrics and for tests of its bounds."""

    runs: int
    """Nodes, those included that only lead older entries on."""
    token_bytes: int
    """What the runs' tokens take, once for all who share them."""
    predictions: int
    namespaces: int
    workers: int


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
        self._block_bytes = block_tokens * TOKEN_BYTES
        self._seats = Seats()
        self._runs = RunTree(block_tokens, longest_run)
        self._tree = PrefixTree(self._runs)
        self._predictions = Predictions(self._runs, prediction_ttl_s)
        self._history = History(self._runs, history_tokens)
        self._groups: dict[int, int] = {}
        """The attention group by which a worker is credited: the first of full attention that it named."""
        self._hybrid: set[int] = set()
        """Seats whose engines have other attention groups beside the one that is credited."""
        self._watches = Watches(self._tree.reach)
        self._distrusted: set[WorkerId] = set()
        self._suspended = 0
        """Sets of first seats, as `_everyone`."""
        self._everyone = 0
        self._eligible = 0
        """All seats that may give credit now."""
        self._unbooked: list[tuple[WorkerId, bytes, Namespace, float]] = []
        """Prompts sent and not yet in the layers; every method that could tell the difference books them first."""

    def apply(self, worker: WorkerId, events: Iterable[KvEvent]) -> Applied:
        """Applies events in the order in which the worker published them."""
        self.settle()
        seat = self._seat(worker)
        applied = Applied()
        for event in events:
            match event:
                case BlockStored():
                    self._watches.before_store(seat)
                    self._store(seat, event, applied)
                case BlockRemoved():
                    self._watches.before_removal(seat)
                    self._remove(seat, event, applied)
                case AllBlocksCleared():
                    self._watches.before_removal(seat)
                    self._clear(seat, event, applied)
        return applied

    def sent(self, worker: WorkerId, tokens: bytes, namespace: Namespace, now: float) -> None:
        """The prompt was sent to the worker, which will hold its whole blocks before long.

        Only noted, since the request itself still waits to go out; the next question finds it booked.
        """
        if len(tokens) >= self._block_bytes:
            self._unbooked.append((worker, tokens, namespace, now))

    def settle(self) -> None:
        """Books what was sent, at a moment when nobody waits, so that the next question need not."""
        for worker, tokens, namespace, now in self._unbooked:
            seat = self._seat(worker)
            self._history.add(seat + _KNOWN, tokens, namespace)
            if not self._is_held(seat, tokens, namespace):
                self._predictions.add(seat + _EXPECTED, tokens, namespace, now)
        self._unbooked.clear()

    def match(self, tokens: bytes, namespace: Namespace, now: float) -> dict[WorkerId, Held]:
        """The workers that could reuse something of the prompt.

        Never the whole prompt: an engine computes at least one token, so at most (tokens - 1) // block whole blocks.
        """
        self.settle()
        self._predictions.expire(now)
        reaches = self._runs.match(self._reusable(tokens), namespace, self._eligible)
        found: dict[WorkerId, Held] = {}
        for members, held in _overlay(self._everyone, reaches, self._block_tokens):
            found.update(dict.fromkeys(self._seats.workers(members), held))
        return found

    def blocks(self, worker: WorkerId) -> int:
        """Distinct blocks that the worker holds by its events."""
        seat = self._seats.first(worker)
        return 0 if seat is None else self._tree.blocks(seat)

    def size(self) -> Size:
        """Walks the whole index."""
        self.settle()
        nodes = self._runs.by_id.values()
        tokens = sum(len(node.tokens) for node in nodes)
        return Size(len(nodes), tokens, len(self._predictions), self._runs.namespaces, self._everyone.bit_count())

    def set_history(self, worker: WorkerId, tokens: int) -> None:
        """Bounds what is remembered of the worker to `tokens`: twice its cache."""
        self.settle()
        self._history.bound(self._seat(worker) + _KNOWN, tokens)

    def watch(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> Watch:
        """Follows what the worker holds of a prompt by its events, credited or not, until `unwatch`."""
        return self._watches.begin(self._seat(worker), self._reusable(tokens), namespace)

    def unwatch(self, worker: WorkerId, watch: Watch) -> None:
        """Looks a last time; what the watch says stays as it is."""
        seat = self._seats.first(worker)
        if seat is not None:
            self._watches.end(seat, watch)

    def is_hybrid(self, worker: WorkerId) -> bool:
        """A prefix may be of no use to the engine although the credited attention group holds it."""
        return self._seats.first(worker) in self._hybrid

    def distrust(self, worker: WorkerId) -> None:
        """No credit, cached or predicted, until `trust`, whatever else happens to the worker meanwhile."""
        self._distrusted.add(worker)
        self._seated()

    def trust(self, worker: WorkerId) -> None:
        self._distrusted.discard(worker)
        self._seated()

    def suspend(self, worker: WorkerId) -> None:
        """No credit, cached or predicted, until `resume`: its events may be missing. Nothing is forgotten."""
        seat = self._seat(worker)
        self._watches.lose(seat)
        self._suspended |= 1 << seat
        self._seated()

    def resume(self, worker: WorkerId) -> None:
        self._suspended &= ~(1 << self._seat(worker))
        self._seated()

    def drop(self, worker: WorkerId) -> None:
        """Forgets the worker as if it had never been."""
        self.settle()
        seat = self._seats.first(worker)
        if seat is None:
            return
        self._watches.lose(seat)
        self._tree.forget(seat)
        self._predictions.forget(seat + _EXPECTED)
        self._history.forget(seat + _KNOWN)
        self._groups.pop(seat, None)
        self._hybrid.discard(seat)
        self._suspended &= ~(1 << seat)
        self._seats.release(worker)
        self._seated()

    def _reusable(self, tokens: bytes) -> bytes:
        """Without a last block that ends the prompt: an engine computes at least one token."""
        return tokens if len(tokens) % self._block_bytes else tokens[: -self._block_bytes]

    def _seat(self, worker: WorkerId) -> int:
        """The worker's first seat, in which its events put it."""
        seat = self._seats.first(worker)
        if seat is None:
            seat = self._seats.claim(worker)
            self._seated()
        return seat

    def _seated(self) -> None:
        self._everyone = self._seats.everyone()
        distrusted = sum(1 << seat for worker in self._distrusted if (seat := self._seats.first(worker)) is not None)
        trusted = self._everyone & ~self._suspended & ~distrusted
        self._eligible = trusted << _HELD | trusted << _EXPECTED | self._everyone << _KNOWN

    def _store(self, seat: int, event: BlockStored, applied: Applied) -> None:
        hashes = event.block_hashes
        tokens: bytes = event.token_ids
        if not self._is_credited(seat, event):
            applied.refused += len(hashes)
            return
        namespace, text = identity(event)
        if text < len(hashes):
            applied.refused += len(hashes) - text
            self._tree.store_apart(seat, hashes[text:])
            hashes, tokens = hashes[:text], tokens[: text * self._block_bytes]
        if not hashes:
            return
        outcome, start = self._tree.store(seat, namespace, event.parent_block_hash, hashes, tokens)
        if outcome is Outcome.CREDITED:
            applied.stored += text
            self._confirm(seat, start, tokens)
        elif outcome is Outcome.ORPHANED:
            applied.orphaned += text
        else:
            applied.refused += text

    def _confirm(self, seat: int, start: int, tokens: bytes) -> None:
        """Ends the predictions that these blocks complete."""
        for sent in self._predictions.ending_in(seat + _EXPECTED, start, tokens):
            if self._is_held(seat, *self._predictions.prompt(sent)):
                self._predictions.end(sent)

    def _is_held(self, seat: int, tokens: bytes, namespace: Namespace) -> bool:
        whole = len(tokens) // self._block_bytes
        return self._tree.reach(seat, tokens, namespace) == whole

    def _remove(self, seat: int, event: BlockRemoved, applied: Applied) -> None:
        group = self._groups.get(seat)
        foreign_group = None not in (group, event.group_idx) and group != event.group_idx
        if foreign_group or not _on_gpu(event.medium, event.locality):
            applied.refused += len(event.block_hashes)
            return
        known = self._tree.remove(seat, event.block_hashes)
        applied.removed += known
        applied.unknown += len(event.block_hashes) - known

    def _clear(self, seat: int, event: AllBlocksCleared, applied: Applied) -> None:
        if not _on_gpu(event.medium, None):
            return
        self._tree.forget(seat)
        self._predictions.forget(seat + _EXPECTED)
        applied.cleared += 1

    def _is_credited(self, seat: int, event: BlockStored) -> bool:
        if not _on_gpu(event.medium, event.locality) or event.block_size != self._block_tokens:
            return False
        if len(event.token_ids) != len(event.block_hashes) * self._block_bytes:
            return False
        foreign_kind = event.kv_cache_spec_kind is not None and event.kv_cache_spec_kind not in _WHOLE_PROMPT_KINDS
        if foreign_kind or not self._is_credited_group(seat, event.group_idx):
            self._hybrid.add(seat)
            return False
        return True

    def _is_credited_group(self, seat: int, group: int | None) -> bool:
        return group is None or self._groups.setdefault(seat, group) == group


def _on_gpu(medium: str | None, locality: str | None) -> bool:
    return medium in (None, "GPU") and locality in (None, "LOCAL")


def _overlay(everyone: int, reaches: list[Reach], block_tokens: int) -> list[tuple[int, Held]]:
    """Sets of workers that agree in all three layers, with what they hold; without those that have nothing."""
    by_events = [(those, blocks) for members, blocks in reaches if (those := members >> _HELD & everyone)]
    just_sent = [(those, blocks) for members, blocks in reaches if (those := members >> _EXPECTED & everyone)]
    once_sent = [(those, blocks) for members, blocks in reaches if (those := members >> _KNOWN & everyone)]
    cells: list[tuple[int, Held]] = []
    for holders, cached in (*by_events, (everyone, 0)):
        holders &= everyone
        everyone ^= holders
        for expecting, predicted in (*just_sent, (holders, 0)):
            expecting &= holders
            if not expecting:
                continue
            holders ^= expecting
            for members, history in (*once_sent, (expecting, 0)):
                members &= expecting
                if members and (cached or predicted or history):
                    soon = (predicted if predicted > cached else cached) * block_tokens
                    once = (history if history > cached else cached) * block_tokens
                    held = Held(cached * block_tokens, soon, once, soon)
                    cells.append((members, held))
                expecting ^= members
    return cells

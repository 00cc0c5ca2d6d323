"""The map of those workers whose engines have blocks of one size."""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from operator import itemgetter

from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent, TokenIds
from kvpool_router.index.answers import Applied, Held, Size
from kvpool_router.index.dump import Frozen, freeze
from kvpool_router.index.history import History
from kvpool_router.index.namespace import Namespace, identity
from kvpool_router.index.predictions import Predictions
from kvpool_router.index.runs import TOKEN_BYTES, Reach, RunTree
from kvpool_router.index.seats import LAYER_OF, LAYERS_BELOW_GPU, Layer, Seats
from kvpool_router.index.tiers import Tier, tier_of
from kvpool_router.index.tree import Outcome, PrefixTree
from kvpool_router.index.watches import Watch, Watches
from kvpool_router.workers import WorkerId

_HELD, _EXPECTED, _KNOWN = (int(layer) for layer in (Layer.HELD, Layer.EXPECTED, Layer.KNOWN))
_WHOLE_PROMPT_KINDS = frozenset({None, "full_attention", "mla_attention", "sink_full_attention"})
"""vLLM's `KVCacheSpecKind`s whose blocks are kept for a whole prompt; the others keep a window or a state."""
_A_WINDOW = "sliding_window"


class SizedMap:
    """One tree, and the seats of its workers; see `CacheMap`, whose methods these are."""

    def __init__(
        self,
        block_tokens: int,
        prediction_ttl_s: float,
        history_tokens: int | None,
        longest_run: int,
        distrusted: AbstractSet[WorkerId],
    ) -> None:
        self.block_tokens = block_tokens
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
        self._watches = Watches(self._reusable_blocks)
        self._distrusted = distrusted
        self._suspended = 0
        """Sets of first seats, as `_everyone`."""
        self._concealed = 0
        self._everyone = 0
        self._trusted = 0
        """Those whose events count now."""
        self._below = 0
        """Those that have had blocks below the GPU."""
        self._eligible = 0
        """All seats that may give credit now."""
        self._unbooked: list[tuple[WorkerId, bytes, Namespace, float]] = []
        """Prompts sent and not yet in the layers; every method that could tell the difference books them first."""

    @property
    def is_empty(self) -> bool:
        return not self._everyone and not self._unbooked

    def workers(self) -> tuple[WorkerId, ...]:
        return tuple(self._seats.workers(self._everyone))

    def apply(self, worker: WorkerId, events: Iterable[KvEvent]) -> Applied:
        if self._unbooked:
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
        if len(tokens) >= self._block_bytes:
            self._unbooked.append((worker, tokens, namespace, now))

    def unsent(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None:
        self.settle()
        seat = self._seats.first(worker)
        if seat is not None:
            self._predictions.withdraw(seat + _EXPECTED, tokens, namespace)

    def settle(self) -> None:
        for worker, tokens, namespace, now in self._unbooked:
            seat = self._seat(worker)
            self._history.add(seat + _KNOWN, tokens, namespace)
            if self._concealed >> seat & 1 or not self._is_held(seat, tokens, namespace):
                self._predictions.add(seat + _EXPECTED, tokens, namespace, now)
        self._unbooked.clear()

    def match(self, tokens: bytes, namespace: Namespace, now: float) -> dict[WorkerId, Held]:
        if self._unbooked:
            self.settle()
        if now >= self._predictions.first_expires:
            self._predictions.expire(now)
        reaches = self._runs.match(tokens, namespace, self._eligible)
        if not len(tokens) % self._block_bytes:
            most = len(tokens) // self._block_bytes - 1
            reaches = [(members, blocks if blocks < most else most) for members, blocks in reaches]
        cells = _overlay(self._everyone, reaches, self.block_tokens)
        workers = self._seats.workers
        found: dict[WorkerId, Held] = {}
        for members, held in cells:
            found |= dict.fromkeys(workers(members), held)
        if self._below:
            self._go_below(self._reusable(tokens), namespace, cells, found)
        return found

    def has_told(self, worker: WorkerId) -> bool:
        """Whether events have said of blocks on its GPU since it was last empty."""
        return self._seats.first(worker) in self._tree.holdings

    def blocks(self, worker: WorkerId, tier: Tier) -> int:
        seat = self._seats.first(worker)
        return 0 if seat is None else self._tree.blocks(seat + LAYER_OF[tier])

    def size(self) -> Size:
        self.settle()
        nodes = self._runs.by_id.values()
        tokens = sum(len(node.tokens) for node in nodes)
        return Size(len(nodes), tokens, len(self._predictions), self._runs.namespaces, self._everyone.bit_count())

    def history_tokens(self, worker: WorkerId) -> int:
        return self._history.limit(self._seat(worker) + _KNOWN)

    def set_history(self, worker: WorkerId, tokens: int) -> None:
        self.settle()
        self._history.bound(self._seat(worker) + _KNOWN, tokens)

    def remembered(self, worker: WorkerId) -> Iterator[tuple[bytes, Namespace]]:
        self.settle()
        return self._history.remembered(self._seat(worker) + _KNOWN)

    def remember(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> None:
        if len(tokens) >= self._block_bytes:
            self._history.add(self._seat(worker) + _KNOWN, tokens, namespace)

    def watch(self, worker: WorkerId, tokens: bytes, namespace: Namespace) -> Watch:
        return self._watches.begin(self._seat(worker), self._reusable(tokens), namespace)

    def look_away(self, worker: WorkerId, watch: Watch) -> None:
        seat = self._seats.first(worker)
        if seat is not None:
            self._watches.look_away(seat, watch)

    def unwatch(self, worker: WorkerId, watch: Watch) -> None:
        seat = self._seats.first(worker)
        if seat is not None:
            self._watches.end(seat, watch)

    def is_hybrid(self, worker: WorkerId) -> bool:
        return self._seats.first(worker) in self._hybrid

    def is_suspended(self, worker: WorkerId) -> bool:
        seat = self._seats.first(worker)
        return seat is not None and bool(self._suspended >> seat & 1)

    def is_concealed(self, worker: WorkerId) -> bool:
        seat = self._seats.first(worker)
        return seat is not None and bool(self._concealed >> seat & 1)

    def suspend(self, worker: WorkerId) -> None:
        seat = self._seat(worker)
        self._watches.lose(seat)
        self._suspended |= 1 << seat
        self.weigh()

    def conceal(self, worker: WorkerId) -> None:
        seat = self._seat(worker)
        self._predictions.forget(seat + _EXPECTED)
        self._suspended &= ~(1 << seat)
        self._concealed |= 1 << seat
        self.weigh()

    def resume(self, worker: WorkerId) -> None:
        seat = self._seat(worker)
        self._suspended &= ~(1 << seat)
        self._concealed &= ~(1 << seat)
        self.weigh()

    def drop(self, worker: WorkerId) -> None:
        self.settle()
        seat = self._seats.first(worker)
        if seat is None:
            return
        self._watches.lose(seat)
        for tier in Tier:
            self._forget(seat, tier)
        self._history.forget(seat + _KNOWN)
        self._groups.pop(seat, None)
        self._hybrid.discard(seat)
        self._suspended &= ~(1 << seat)
        self._concealed &= ~(1 << seat)
        self._seats.release(worker)
        self.weigh()

    def dump(self, worker: WorkerId) -> Iterator[Sequence[KvEvent]]:
        seat = self._seats.first(worker)
        frozen: list[Frozen] = []
        if seat is not None:
            for tier in Tier:
                own = seat + LAYER_OF[tier]
                frozen += freeze(self._runs, self._tree, own, tier, self._groups.get(seat))
        others = BlockStored([], None, TokenIds(), self.block_tokens, kv_cache_spec_kind=_A_WINDOW)
        hybrid = [[others]] if seat in self._hybrid else []
        return chain(hybrid, (events for tier in frozen for events in tier.events()))

    def _reusable(self, tokens: bytes) -> bytes:
        """Without a last block that ends the prompt: an engine computes at least one token."""
        return tokens if len(tokens) % self._block_bytes else tokens[: -self._block_bytes]

    def _seat(self, worker: WorkerId) -> int:
        """The worker's first seat."""
        seat = self._seats.first(worker)
        if seat is None:
            seat = self._seats.claim(worker)
            self.weigh()
        return seat

    def weigh(self) -> None:
        """To be called where other workers than before are here, suspended, concealed or distrusted."""
        self._everyone = self._seats.everyone()
        distrusted = sum(1 << seat for worker in self._distrusted if (seat := self._seats.first(worker)) is not None)
        expecting = self._everyone & ~self._suspended & ~distrusted
        self._trusted = expecting & ~self._concealed
        self._eligible = self._trusted << _HELD | expecting << _EXPECTED | self._everyone << _KNOWN

    def _forget(self, seat: int, tier: Tier) -> None:
        self._tree.forget(seat + LAYER_OF[tier])
        if tier is Tier.GPU:
            self._predictions.forget(seat + _EXPECTED)
            return
        if not any(self._tree.blocks(seat + layer) for layer in LAYERS_BELOW_GPU):
            self._below &= ~(1 << seat)

    def _store(self, seat: int, event: BlockStored, applied: Applied) -> None:
        tier = tier_of(event.medium, event.locality)
        if tier is None or not self._is_of_whole_prompts(seat, event, tier):
            applied.refused += len(event.block_hashes)
        elif tier is not Tier.GPU:
            self._below |= 1 << seat
            self._store_below(seat + LAYER_OF[tier], event, applied)
        elif event.block_size != self.block_tokens or not is_whole(event):
            applied.refused += len(event.block_hashes)
        else:
            start, credited = self._store_text(seat, event, applied)
            applied.stored += credited
            if credited:
                self._confirm(seat, start, event.token_ids)

    def _store_text(self, seat: int, event: BlockStored, applied: Applied) -> tuple[int, int]:
        """Stores blocks by their tokens; returns the first one's place in its prompt, and how many are credited."""
        hashes: Sequence[int] = event.block_hashes
        namespace, text = identity(event)
        if text < len(hashes):
            applied.refused += len(hashes) - text
            self._tree.store_apart(seat, hashes[text:])
            hashes = hashes[:text]
        if not hashes:
            return 0, 0
        tokens = event.token_ids[: text * event.block_size * TOKEN_BYTES]
        outcome, start = self._tree.store(seat, namespace, event.parent_block_hash, hashes, tokens)
        if outcome is Outcome.CREDITED:
            return start, text
        if outcome is Outcome.ORPHANED:
            applied.orphaned += text
        else:
            applied.refused += text
        return 0, 0

    def _store_below(self, seat: int, event: BlockStored, applied: Applied) -> None:
        """The native offloading of vLLM names the hash alone, or tokens but nothing else that the blocks depend on.

        So only what comes with its extra keys is placed by its tokens. A hash may stand for several blocks of the GPU.
        """
        count, rest = divmod(event.block_size, self.block_tokens)
        if count and not rest and (not event.block_hashes or not self._tree.blocks(seat)):
            self._tree.divide(seat, count)
        if event.extra_keys is None:
            placed = self._tree.store_known(seat, event.block_hashes)
            applied.offloaded += placed
            applied.orphaned += len(event.block_hashes) - placed
        elif is_whole(event) and event.block_size == self._tree.count(seat) * self.block_tokens:
            applied.offloaded += self._store_text(seat, event, applied)[1]
        else:
            applied.refused += len(event.block_hashes)

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
        tier = tier_of(event.medium, event.locality)
        if foreign_group or tier is None:
            applied.refused += len(event.block_hashes)
            return
        known = self._tree.remove(seat + LAYER_OF[tier], event.block_hashes)
        applied.removed += known
        applied.unknown += len(event.block_hashes) - known

    def _clear(self, seat: int, event: AllBlocksCleared, applied: Applied) -> None:
        """An event that names no tier may mean them all: vLLM empties the lower ones without an event of their own."""
        tier = tier_of(event.medium, None)
        if tier is None:
            return
        for each in Tier if event.medium is None else (tier,):
            self._forget(seat, each)
        applied.cleared += tier is Tier.GPU

    def _is_of_whole_prompts(self, seat: int, event: BlockStored, tier: Tier) -> bool:
        """Whether it is of the attention group by which the worker is credited."""
        if event.kv_cache_spec_kind in _WHOLE_PROMPT_KINDS and self._is_credited_group(seat, event.group_idx, tier):
            return True
        if tier is Tier.GPU or seat in self._groups:
            self._hybrid.add(seat)
        return False

    def _is_credited_group(self, seat: int, group: int | None, tier: Tier) -> bool:
        """The GPU's events choose it: the others' may not say of which kind it is."""
        if tier is not Tier.GPU:
            return group is None or self._groups.get(seat) == group
        return group is None or self._groups.setdefault(seat, group) == group

    def _reusable_blocks(self, seat: int, tokens: bytes, namespace: Namespace) -> int:
        """Leading blocks by events: on the GPU, and right after them below it."""
        blocks = self._tree.reach(seat, tokens, namespace)
        if not self._below >> seat & 1:
            return blocks
        reaches = self._runs.onward(tokens, namespace, [(1 << seat, blocks)], len(Layer), LAYERS_BELOW_GPU)
        return max([blocks, *(further for _, further in reaches)])

    def _go_below(
        self, tokens: bytes, namespace: Namespace, cells: list[tuple[int, Held]], found: dict[WorkerId, Held]
    ) -> None:
        """Adds what trusted workers could load, on from where their cached and predicted blocks end."""
        able = self._below & self._trusted
        starts = [(able & members, held.predicted_tokens // self.block_tokens) for members, held in cells]
        starts.append((able & ~sum(members for members, _ in cells), 0))
        reaches = self._runs.onward(tokens, namespace, starts, len(Layer), LAYERS_BELOW_GPU)
        for members, blocks in reaches:
            for worker in self._seats.workers(members) if blocks else ():
                reached = blocks * self.block_tokens
                held = found.get(worker, _NOTHING)
                found[worker] = held._replace(reachable_tokens=max(reached, held.reachable_tokens))


_NOTHING = Held(0, 0, 0, 0)
_BLOCKS = itemgetter(1)


def is_whole(event: BlockStored) -> bool:
    """Whether it has the tokens of each of its blocks."""
    return len(event.token_ids) == len(event.block_hashes) * event.block_size * TOKEN_BYTES


def named_size(events: Iterable[KvEvent]) -> int | None:
    """The block size, in tokens, of the engine that published these, if it can be told from them."""
    for event in events:
        if isinstance(event, BlockStored) and event.block_size > 0 and is_whole(event):
            on_gpu = tier_of(event.medium, event.locality) is Tier.GPU
            if on_gpu and event.kv_cache_spec_kind in _WHOLE_PROMPT_KINDS:
                return event.block_size
    return None


def _overlay(everyone: int, reaches: list[Reach], block_tokens: int) -> list[tuple[int, Held]]:
    """Sets of workers that agree in all three layers, with what they hold; without those that have nothing.

    Whose events reach as far as anything else of its own needs no further look: the greatest counts in each layer. So
    the farthest are taken first, and only who was sent more than it has told of is looked at layer by layer.
    """
    cells: list[tuple[int, Held]] = []
    known = promised = 0
    for members, blocks in sorted(reaches, key=_BLOCKS, reverse=True):
        news = everyone & ~known
        holders = members & news
        if holders and blocks:
            tokens = blocks * block_tokens
            cells.append((holders, Held(tokens, tokens, tokens, tokens)))
        others = (members >> _EXPECTED | members >> _KNOWN) & news & ~holders
        promised |= others
        known |= holders | others
    return cells + _overlay_one_by_one(promised, _layers(everyone, reaches), block_tokens) if promised else cells


def _layers(everyone: int, reaches: list[Reach]) -> list[tuple[int, int, int, int]]:
    """Who holds, expects and once had so many blocks, as sets of first seats."""
    return [
        (members >> _HELD & everyone, members >> _EXPECTED & everyone, members >> _KNOWN & everyone, blocks)
        for members, blocks in reaches
        if blocks
    ]


def _overlay_one_by_one(
    rest: int, layers: list[tuple[int, int, int, int]], block_tokens: int
) -> list[tuple[int, Held]]:
    cells: list[tuple[int, Held]] = []
    for holders, _, _, cached in (*layers, (rest, 0, 0, 0)):
        holders &= rest
        rest ^= holders
        for _, expecting, _, predicted in (*layers, (0, holders, 0, 0)):
            expecting &= holders
            holders ^= expecting
            for _, _, members, history in (*layers, (0, 0, expecting, 0)) if expecting else ():
                members &= expecting
                expecting ^= members
                if members:
                    soon = (predicted if predicted > cached else cached) * block_tokens
                    once = (history if history > cached else cached) * block_tokens
                    cells.append((members, Held(cached * block_tokens, soon, once, soon)))
    return cells

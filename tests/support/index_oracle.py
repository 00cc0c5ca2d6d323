"""What the index must answer, as plain dictionaries: a page that is slow and obviously right.

A block is known by its prompt up to it: `(namespace, (b0, b1, ...))`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kvpool_router.index.answers import Held
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.tiers import Tier
from kvpool_router.workers import WorkerId

Path = tuple[int, ...]
Place = tuple[Namespace, Path]
BLOCK_TOKENS = 2


def tokens_of(path: Path) -> bytes:
    return b"".join(block.to_bytes(4, "little") * BLOCK_TOKENS for block in path)


@dataclass
class OracleWorker:
    limit: int
    tiers: dict[Tier, dict[Place, int]] = field(default_factory=lambda: {tier: {} for tier in Tier})
    """Copies of each block."""
    lost: dict[Tier, dict[Place, int]] = field(default_factory=lambda: {tier: {} for tier in Tier})
    """The same, of blocks of whom only the hash was ever told."""
    predictions: dict[Place, tuple[float, int]] = field(default_factory=dict)
    """When each expires, and how many requests it is for."""
    sent: dict[Place, int] = field(default_factory=dict)
    stamps: dict[Place, int] = field(default_factory=dict)
    suspended: bool = False
    has_group: bool = False
    """The GPU has named the attention group that counts."""

    @property
    def copies(self) -> dict[Place, int]:
        return self.tiers[Tier.GPU]

    def knows(self, place: Place) -> bool:
        return any(place in held for held in self.tiers.values())


class IndexOracle:
    def __init__(self, ttl_s: float, history_blocks: int) -> None:
        self.ttl_s = ttl_s
        self.history_blocks = history_blocks
        self.workers: dict[WorkerId, OracleWorker] = {}
        self.stamp = 0

    def worker(self, worker: WorkerId) -> OracleWorker:
        return self.workers.setdefault(worker, OracleWorker(self.history_blocks))

    def stored(self, worker: WorkerId, namespace: Namespace, path: Path, start: int, tier: Tier = Tier.GPU) -> None:
        here = self.worker(worker)
        here.has_group |= tier is Tier.GPU
        if not here.has_group:
            return
        if start and not here.knows((namespace, path[:start])):
            return
        for end in range(start + 1, len(path) + 1):
            place = namespace, path[:end]
            here.tiers[tier][place] = here.tiers[tier].get(place, 0) + here.lost[tier].pop(place, 0) + 1
            for other, lost in here.lost.items():
                if place in lost:
                    here.tiers[other][place] = lost.pop(place)
        for spot, prompt in list(here.predictions) if tier is Tier.GPU else ():
            ends_here = start < len(prompt) <= len(path) and prompt[-1] == path[len(prompt) - 1]
            if ends_here and self.leading(here.copies, spot, prompt) == len(prompt):
                del here.predictions[spot, prompt]

    def stored_by_hash(self, worker: WorkerId, place: Place, tier: Tier) -> None:
        here = self.worker(worker)
        if not here.has_group:
            return
        held = here.tiers[tier] if here.knows(place) else here.lost[tier]
        held[place] = held.get(place, 0) + 1

    def removed(self, worker: WorkerId, place: Place, tier: Tier = Tier.GPU) -> None:
        for held in (self.worker(worker).tiers[tier], self.worker(worker).lost[tier]):
            if held.get(place, 0) > 1:
                held[place] -= 1
            else:
                held.pop(place, None)

    def cleared(self, worker: WorkerId, tiers: Iterable[Tier] = Tier) -> None:
        here = self.worker(worker)
        for tier in tiers:
            here.tiers[tier].clear()
            here.lost[tier].clear()
        if Tier.GPU in tiers:
            here.predictions.clear()

    def restored(self) -> None:
        """From a dump: what was sent is not in it."""
        for here in self.workers.values():
            here.limit = self.history_blocks
            for forgotten in (here.predictions, here.sent, here.stamps):
                forgotten.clear()

    def dropped(self, worker: WorkerId) -> None:
        self.workers.pop(worker, None)

    def sent(self, worker: WorkerId, namespace: Namespace, path: Path, now: float) -> None:
        here = self.worker(worker)
        if not path:
            return
        if self.leading(here.copies, namespace, path) < len(path):
            expires, requests = here.predictions.get((namespace, path), (now, 0))
            here.predictions[namespace, path] = now + self.ttl_s, (requests if expires > now else 0) + 1
        if here.limit:
            self.stamp += 1
            here.sent.pop((namespace, path), None)
            here.sent[namespace, path] = self.stamp
            here.stamps.update({(namespace, path[:end]): self.stamp for end in range(1, len(path) + 1)})
            self.fade(here)

    def unsent(self, worker: WorkerId, namespace: Namespace, path: Path) -> None:
        predictions = self.worker(worker).predictions
        expires, requests = predictions.pop((namespace, path), (0.0, 0))
        if requests > 1:
            predictions[namespace, path] = expires, requests - 1

    def bounded(self, worker: WorkerId, blocks: int) -> None:
        self.worker(worker).limit = blocks
        self.fade(self.worker(worker))

    def fade(self, here: OracleWorker) -> None:
        while len(here.stamps) > here.limit:
            oldest = next(iter(here.sent))
            stamp = here.sent.pop(oldest)
            here.stamps = {place: at for place, at in here.stamps.items() if at != stamp}

    @staticmethod
    def leading(known: dict[Place, int], namespace: Namespace, path: Path) -> int:
        whole = (end for end in range(len(path)) if (namespace, path[: end + 1]) not in known)
        return next(whole, len(path))

    def match(self, namespace: Namespace, path: Path, now: float) -> dict[WorkerId, Held]:
        found = {}
        for name, here in self.workers.items():
            sent = {
                (spot, prompt[:end]): 1
                for (spot, prompt), (expires, _) in here.predictions.items()
                for end in range(1, len(prompt) + 1)
                if expires > now
            }
            cached = self.leading(here.copies, namespace, path) * (not here.suspended)
            predicted = self.leading(sent, namespace, path) * (not here.suspended)
            history = self.leading(here.stamps, namespace, path)
            soon = reachable = max(cached, predicted)
            below = here.tiers[Tier.CPU] | here.tiers[Tier.STORAGE]
            while not here.suspended and reachable < len(path) and (namespace, path[: reachable + 1]) in below:
                reachable += 1
            held = Held(cached, soon, max(cached, history), reachable)
            if any(held):
                found[name] = Held(*(blocks * BLOCK_TOKENS for blocks in held))
        return found

"""What the door works with; nothing of it is made there."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kvpool_router.adapters import AdapterDirectory
from kvpool_router.audit.auditor import Audit
from kvpool_router.breaker import Breaker
from kvpool_router.decisions import DecisionLog, Observer
from kvpool_router.load import Load
from kvpool_router.pick import PrefixMap
from kvpool_router.proxy import Engines
from kvpool_router.score.protocol import Strategy
from kvpool_router.siblings.arrival import Entrance
from kvpool_router.siblings.outbox import Outbox
from kvpool_router.tokens.protocol import Tokenizer
from kvpool_router.workers import Roster, WorkerId


@dataclass(slots=True)
class DoorDeps:
    """Everything that one router's requests share."""

    names: tuple[str, ...]
    """Model names that clients may ask for; the first is the pool's own."""
    adapters: AdapterDirectory
    max_body_bytes: int
    roster: Roster
    tokenizer: Tokenizer
    cache: PrefixMap
    audit: Audit
    load: Load
    outbox: Outbox
    """What siblings hear of."""
    strategy: Strategy
    breaker: Breaker
    engines: Engines
    decisions: DecisionLog
    observer: Observer
    entrance: Entrance
    misread: Callable[[], Collection[WorkerId]] = tuple
    """Workers that make other token ids of a prompt than this router: what it holds of them says nothing."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that only grow; the one clock of cache map, load and breaker."""
    wall_clock: Callable[[], float] = time.time

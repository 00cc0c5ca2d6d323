"""The seam between the router and whatever knows the pool's pods."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from kvpool_router.workers import RouterPod, Worker


class Snapshot(NamedTuple):
    """Who belongs to the pool at one moment, each in a stable order."""

    workers: tuple[Worker, ...]
    routers: tuple[RouterPod, ...]
    """Ready or not: whoever can be reached counts."""


class Membership(Protocol):
    """The pool's engine and router pods, followed for ever.

    Each item is the full set, in a stable order; an item comes at the start and whenever the set changes. While the
    source cannot be read nothing comes, so the last set stands, and `trouble` says why in one sentence.
    """

    @property
    def trouble(self) -> str | None:
        """Why the source cannot be read now; None while it can."""
        ...

    def snapshots(self) -> AsyncIterator[Snapshot]: ...

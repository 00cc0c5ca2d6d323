"""The two seams of following a stream: where batches come from, and where they go."""

from collections.abc import AsyncGenerator
from typing import Protocol

from kvpool_router.events.sequence import Frame


class ReplayUnavailable(Exception):
    """No replay can be had now; the text says why, in words that fit after "its"."""

    def __init__(self, why: str, *, unheard: bool = False) -> None:
        super().__init__(why)
        self.unheard = unheard
        """The engine has not been reached, so it has nothing to answer later."""


class Feed(Protocol):
    """One connection to one engine's publisher; used until the connection is lost."""

    async def live(self, timeout_s: float) -> Frame | None:
        """The next live batch; None when none came in time."""
        ...

    def replay(self, first: int) -> AsyncGenerator[Frame, None]:
        """Batches that the engine still holds from sequence `first` on, to its end mark. Raises ReplayUnavailable."""
        ...


class Sink(Protocol):
    """The map as one worker's stream sees it."""

    async def apply(self, frame: Frame, *, live: bool) -> None:
        """Decodes and applies one batch. Cancelled half way, it applies the rest before it ends."""
        ...

    def suspend(self) -> None:
        """No credit for this worker until `resume`."""
        ...

    def resume(self) -> None: ...

    def drop(self) -> None:
        """Forgets every block of the worker."""
        ...

    async def doubt(self) -> None:
        """Events were lost for good: no block known until now has credit before the engine confirms it."""
        ...

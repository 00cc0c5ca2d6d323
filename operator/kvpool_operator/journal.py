"""Who is told what the loops do. In a cluster that is metrics and liveness; on one machine it is nobody."""

from collections.abc import Sequence
from typing import Protocol

from kvpool_api.status import InferencePoolStatus

from kvpool_operator.cluster.seam import Ref
from kvpool_operator.plan.actions import Done


class Journal(Protocol):
    """Told as it happens; what it does with it must not raise."""

    def pool_begins(self, pool: Ref) -> None:
        """The pool has a loop from now on."""
        ...

    def pool_ends(self, pool: Ref) -> None: ...

    def round_ends(self, pool: Ref, seconds: float, error: Exception | None) -> None:
        """A round took `seconds`; `error` is what broke it off."""
        ...

    def acted(self, done: Sequence[Done]) -> None: ...

    def reported(self, pool: Ref, status: InferencePoolStatus) -> None:
        """What the round saw, whether or not it differs from what stood in the pool's status."""
        ...


class Unheard:
    """Keeps nothing."""

    def pool_begins(self, pool: Ref) -> None:
        pass

    def pool_ends(self, pool: Ref) -> None:
        pass

    def round_ends(self, pool: Ref, seconds: float, error: Exception | None) -> None:
        pass

    def acted(self, done: Sequence[Done]) -> None:
        pass

    def reported(self, pool: Ref, status: InferencePoolStatus) -> None:
        pass

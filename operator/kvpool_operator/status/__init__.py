"""What the pool's status says: pure, from one observation, the plan and the status before."""

from kvpool_operator.status.status import status_of

__all__ = ["status_of"]

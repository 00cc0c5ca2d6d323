"""What the pool's status says: pure, from one observation, what was done, and the status before."""

from kvpool_operator.status.status import status_of, status_of_unreadable

__all__ = ["status_of", "status_of_unreadable"]

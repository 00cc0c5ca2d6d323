"""Which pool a log line is about: known to the task that runs the pool's loop, and to every task that it starts."""

from contextvars import ContextVar

from kvpool_operator.cluster.seam import Ref

_POOL: ContextVar[Ref | None] = ContextVar("pool", default=None)


def speak_of(pool: Ref) -> None:
    """Lines of this task, and of tasks it starts from now on, are about the pool."""
    _POOL.set(pool)


def spoken_of() -> Ref | None:
    return _POOL.get()

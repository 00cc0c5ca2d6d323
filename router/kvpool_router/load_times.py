"""How long engines take to load a token of KV from main memory, learned from what their first tokens came later by."""

from kvpool_router.workers import WorkerId

ASSUMED_TOKEN_S = 4e-6
"""128 KiB to 256 KiB a token over one link of PCIe 4 or 5; for the first loads only."""
LEAST_TOKENS = 512
"""A shorter load tells less about itself than about all else that takes time."""
_ASSUMED_TOKENS = 4096.0
"""What is assumed of a worker, or of the pool, weighs as much as a load of so many tokens."""
_KEEP = 0.9
"""Of every older load with each new one."""
_SLOWEST_TOKEN_S = 100e-6
"""Whoever seems slower was delayed by something else."""


class LoadTimes:
    """Seconds a token: of a worker as far as it has shown it, else of the pool. Pure, O(1) in memory a worker."""

    def __init__(self) -> None:
        self._seen: dict[WorkerId, tuple[float, float]] = {}
        """Fading sums: tokens, seconds."""
        self._pool = (0.0, 0.0)

    def observe(self, worker: WorkerId, tokens: int, seconds: float) -> None:
        """A first token came so many seconds later than it would have come without loading so many tokens."""
        if tokens < LEAST_TOKENS:
            return
        believed_s = min(max(seconds, 0.0), tokens * _SLOWEST_TOKEN_S)
        self._seen[worker] = _with(self._seen.get(worker, (0.0, 0.0)), tokens, believed_s)
        self._pool = _with(self._pool, tokens, believed_s)

    def token_s(self, worker: WorkerId) -> float:
        """Seconds to load one token."""
        of_pool = _mean(self._pool, ASSUMED_TOKEN_S)
        return _mean(self._seen.get(worker, (0.0, 0.0)), of_pool)

    def forget(self, worker: WorkerId) -> None:
        self._seen.pop(worker, None)


def _with(sums: tuple[float, float], tokens: int, seconds: float) -> tuple[float, float]:
    return _KEEP * sums[0] + tokens, _KEEP * sums[1] + seconds


def _mean(sums: tuple[float, float], assumed_token_s: float) -> float:
    tokens, seconds = sums
    return (seconds + _ASSUMED_TOKENS * assumed_token_s) / (tokens + _ASSUMED_TOKENS)

"""When rounds may begin, so that many pools at once do not fall upon the API server: after a start, after a re-list."""

from collections.abc import Callable


class Turns:
    """Hands out times to begin: so many at once, then so many a second, in the order in which they are asked for.

        asked    |||||||||||||          13 at once, with 4 at once and 2 a second
        begun    ||||  |  |  |  |  |    the fifth half a second later; whoever comes alone never waits

    It is the generic cell rate algorithm: one number, the time by which all that was handed out is paid for.
    """

    def __init__(self, clock: Callable[[], float], *, at_once: int, per_s: float) -> None:
        """`clock` counts seconds and never goes back."""
        self._clock = clock
        self._each_s = 1.0 / per_s
        self._credit_s = (at_once - 1) * self._each_s
        self._paid_at = clock()

    def wait_s(self) -> float:
        """How long the one who asks now has to wait; the turn is taken."""
        now = self._clock()
        due = max(self._paid_at, now)
        self._paid_at = due + self._each_s
        return max(0.0, due - now - self._credit_s)

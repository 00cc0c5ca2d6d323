"""How long calls wait, and how often they are tried."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The attribute docstrings are the manual."""

    connect_s: float = 5.0
    """A connection may take this long."""
    call_s: float = 15.0
    """An answer may take this long; a call that is too slow is not repeated: who calls decides."""
    log_s: float = 5.0
    """The same for a log, which may have to come from a node that is silent."""
    waits_s: tuple[float, ...] = (0.1, 0.5, 2.0)
    """Waits before the second, third … try of a call that the API server had no time for, give or take a third."""
    patience_s: float = 5.0
    """Where the API server asks for a longer wait, the call ends at once and passes the wish on."""
    watch_s: float = 150.0
    """The API server ends a watch about this much later; a watch whose end is lost is found dead by then."""
    watch_slack_s: float = 15.0
    """A watch that is silent for this much longer is cut by us."""
    page: int = 500
    """So many objects come in one answer to a list."""

    def wait_s(self, failures: int, asked_s: float | None) -> float | None:
        """The wait before the next try after so many failures before this one; None: no more."""
        if failures >= len(self.waits_s) or (asked_s or 0.0) > self.patience_s:
            return None
        return max(self._spread(self.waits_s[failures]), (asked_s or 0.0) * random.uniform(1.0, 1.3))  # noqa: S311

    def rest_s(self, failures: int) -> float:
        """The same where trying never ends."""
        return self._spread(self.waits_s[min(failures, len(self.waits_s) - 1)])

    def watch_ends_after_s(self) -> int:
        """Another for each watch, so that not all of them come back at once."""
        return max(1, round(self._spread(self.watch_s)))

    def _spread(self, wait_s: float) -> float:
        return wait_s * random.uniform(0.7, 1.3)  # noqa: S311 - spreads load

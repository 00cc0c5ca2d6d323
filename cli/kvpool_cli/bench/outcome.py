"""What came of one request."""

from dataclasses import dataclass

from kvpool_cli.bench.stream import Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times in seconds after the start of the run; exactly one of `usage` and `error` is set.

    `ttft_s` counts from when the request was due, not from when the client got round to sending it, so a client or a
    server that stalls cannot hide the wait (coordinated omission).
    """

    due_s: float
    sent_s: float
    first_s: float | None
    last_s: float
    usage: Usage | None = None
    error: str | None = None

    @property
    def late_s(self) -> float:
        return self.sent_s - self.due_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None or self.error is not None else self.first_s - self.due_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time between output tokens after the first."""
        if self.usage is None or self.first_s is None or self.usage.output < 2:
            return None
        return (self.last_s - self.first_s) / (self.usage.output - 1)

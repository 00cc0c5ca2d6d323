"""Reads a completion's event stream as bytes: events are counted, and only the last one is parsed."""

import json
from dataclasses import dataclass

EVENT = b"data:"
DONE = b"data: [DONE]"
KEPT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them; `cached` is None where it does not say."""

    prompt: int
    output: int
    cached: int | None


class StreamReading:
    """What a stream has said so far. Times are of the caller's clock; comments (keep-alives) are not events."""

    __slots__ = ("_tail", "events", "first_at", "last_at")

    def __init__(self) -> None:
        self.events = 0
        self.first_at: float | None = None
        self.last_at: float | None = None
        self._tail = b""

    def feed(self, received: bytes, now: float) -> None:
        """`received` may end anywhere, even inside an event's first word."""
        events = (self._tail[1 - len(EVENT) :] + received).count(EVENT)
        self._tail = (self._tail + received)[-KEPT_BYTES:]
        if not events:
            return
        self.events += events
        self.last_at = now
        if self.first_at is None:
            self.first_at = now

    def ending(self) -> Usage | str:
        """The stream's usage, or in a few words why it has none."""
        events = [event for event in self._tail.split(b"\n\n") if event.startswith(EVENT)]
        finished = bool(events) and events[-1].strip() == DONE
        last = _parsed(events[-2 if finished else -1]) if len(events) > finished else {}
        if "error" in last:
            return f"stream error: {_error_type(last['error'])}"
        if not finished:
            return "stream cut off"
        usage = last.get("usage")
        return _usage(usage) if isinstance(usage, dict) else "no usage in the stream"


def _parsed(event: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(event.removeprefix(EVENT))
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _error_type(error: object) -> str:
    return str(error.get("type") or error.get("code") or "unnamed") if isinstance(error, dict) else str(error)


def _usage(usage: dict[str, object]) -> Usage | str:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(output, int)):
        return "no usage in the stream"
    return Usage(prompt, output, cached if isinstance(cached, int) else None)

"""Server-sent events on their way through: passed on whole and unparsed, but for the one that holds the usage.

Usage is asked for in every stream, which adds one last event, `"choices":[]`, where the client did not ask itself; that
event is read and taken out. With it would go `system_fingerprint`, which the engine writes into its last event only;
so the event before, which tells why generation ended, waits for it: no time at all, as the engine writes both at once.
Every other event passes as it came.
"""

import re

from kvpool_router.requests.refusal import Dialect
from kvpool_router.requests.usage import Usage, usage_of

MAX_HELD_BYTES = 1 << 20
"""An event longer than this is passed on in pieces rather than held until it is whole."""

_ENDS = (b"\n\n", b"\r\n\r\n")
_ENDING = b'"finish_reason":"'
_FINGERPRINT = re.compile(rb',"system_fingerprint":"[^"\\]*"')
_MARKS = {
    Dialect.OPENAI: b'"choices":[]',
    Dialect.RESPONSES: b'"input_tokens_details"',
    Dialect.ANTHROPIC: b'"output_tokens"',
}


class EventStream:
    """One stream. Bytes go in as the network cut them and come out cut at the ends of events."""

    __slots__ = ("_drops", "_last", "_mark", "_rest")

    def __init__(self, dialect: Dialect, *, drops_usage: bool) -> None:
        self._mark = _MARKS[dialect]
        self._drops = drops_usage
        self._rest = b""
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        """What the client may have now."""
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        if not chunk.endswith(_ENDS):
            chunk = self._whole(chunk)
        if self._mark in chunk:
            return self._seen(chunk)
        if self._drops and _ENDING in chunk:
            return self._all_but_ending(chunk)
        return chunk

    def close(self) -> bytes:
        """What is left when the engine has ended the stream."""
        rest, self._rest = self._rest, b""
        return rest

    def usage(self) -> Usage | None:
        """What the last event with usage said."""
        for line in reversed(self._last.splitlines()):
            if line.startswith(b"data:") and (found := usage_of(line[5:])) is not None:
                return found
        return None

    def _whole(self, chunk: bytes) -> bytes:
        cut = max(chunk.rfind(end) + len(end) if end in chunk else 0 for end in _ENDS)
        if len(chunk) - cut > MAX_HELD_BYTES:
            return chunk
        self._rest = chunk[cut:]
        return chunk[:cut]

    def _all_but_ending(self, chunk: bytes) -> bytes:
        start = chunk.rfind(b"\n\n", 0, -2)
        start = 0 if start < 0 else start + 2
        if chunk.find(_ENDING, start) < 0:
            return chunk
        self._rest = chunk[start:] + self._rest
        return chunk[:start]

    def _seen(self, chunk: bytes) -> bytes:
        events = chunk.split(b"\n\n")
        kept: list[bytes] = []
        for event in events:
            if self._mark in event:
                self._last = event
                if self._drops and usage_of(event.removeprefix(b"data:")) is not None:
                    _hand_down(_FINGERPRINT.search(event), kept)
                    continue
            kept.append(event)
        return b"\n\n".join(kept) if len(kept) < len(events) else chunk


def _hand_down(fingerprint: re.Match[bytes] | None, kept: list[bytes]) -> None:
    """Gives it to the event before, where the engine itself writes it if nobody asks for usage."""
    if fingerprint is not None and kept and _ENDING in kept[-1] and kept[-1].endswith(b"}"):
        kept[-1] = kept[-1][:-1] + fingerprint[0] + b"}"

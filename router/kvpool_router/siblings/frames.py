"""The wire between sibling routers: frames that are whole and in their place, or refused. Pure.

    frame = length of the payload (4 bytes) | digest (16 bytes) | payload

The digest covers the payload, its position in the stream and what the stream is, so that a byte that is wrong, a frame
that is missing and one of another stream or version are all found. What ends without saying so is the reader's to
refuse: each kind of stream has a last word of its own, or none.
"""

import hashlib
import struct
from collections.abc import Iterator

VERSION = 2
"""Of frames and everything in them: routers of different versions do not understand each other, and say so."""
LONGEST_PAYLOAD = 64 << 20
"""Bytes; what claims to be longer is no frame."""

_LENGTH = struct.Struct(">I")
_DIGEST_BYTES = 16
_HEAD = _LENGTH.size + _DIGEST_BYTES


class Refused(Exception):
    """What came cannot be used; why, as a clause."""

    is_trouble = True
    """Somebody may have to mend it."""


class FrameWriter:
    """Frames of one stream, which is of one `kind`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._position = 0

    def frame(self, payload: bytes) -> bytes:
        framed = _LENGTH.pack(len(payload)) + _digest(self._kind, self._position, payload) + payload
        self._position += 1
        return framed


class FrameReader:
    """Payloads of one stream, from bytes in pieces of any size."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._position = 0
        self._rest = bytearray()

    @property
    def amid(self) -> bool:
        """A frame has begun and not ended."""
        return bool(self._rest)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The payloads that are whole now, each as soon as it is drawn. Raises Refused."""
        self._rest += piece
        while len(self._rest) >= _HEAD:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > LONGEST_PAYLOAD:
                raise Refused(f"a frame claims {length} bytes")
            if len(self._rest) < _HEAD + length:
                return
            payload = bytes(self._rest[_HEAD : _HEAD + length])
            if self._rest[_LENGTH.size : _HEAD] != _digest(self._kind, self._position, payload):
                raise Refused(f"frame {self._position} is damaged, missing, or of another version")
            self._position += 1
            del self._rest[: _HEAD + length]
            yield payload


def _digest(kind: str, position: int, payload: bytes) -> bytes:
    own = f"{VERSION} {kind} {position}".encode()
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES, key=own).digest()

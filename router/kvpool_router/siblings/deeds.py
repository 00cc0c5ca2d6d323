"""What a router tells its siblings of each request: that it went out, began to answer, and ended."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import Incarnation, WorkerId

BOOKINGS = "bookings"
"""The kind of stream that deeds travel in, and the last part of its path."""


class Sent(msgspec.Struct, tag="sent", frozen=True, gc=False):
    """A request went to a worker."""

    number: int
    """Names the request between two routers, for as long as it is open."""
    worker: WorkerId
    incarnation: Incarnation
    prompt_tokens: int
    held_tokens: int
    """Prompt tokens that the worker was expected to have."""
    loaded_tokens: int
    """Those of them that it has below its GPU."""
    streams: bool
    certain: bool
    """As `Ticket.certain`."""
    prompts: tuple[bytes, ...]
    """Token ids as little-endian uint32; empty where they could not be told."""
    namespace: Namespace


class FirstToken(msgspec.Struct, tag="first", frozen=True, gc=False):
    """The first chunk of a streamed answer came."""

    number: int


class Done(msgspec.Struct, tag="done", frozen=True, gc=False):
    """The answer ended, in whichever way."""

    number: int
    computed: bool
    """The worker took the prompt; otherwise it refused it, failed, or was left before its first byte."""


class Anew(msgspec.Struct, tag="anew", frozen=True, gc=False):
    """What was told before counts no longer: all that is open follows."""


Deed: TypeAlias = Sent | FirstToken | Done | Anew

_ENCODER = msgspec.msgpack.Encoder(enc_hook=bytes)
_DECODER = msgspec.msgpack.Decoder(list[Deed])


def packed(deed: Deed, longest: int) -> bytes:
    """The deed as `encoded` writes it; one of more than so many bytes without its prompts, so that its load counts."""
    told = _ENCODER.encode(deed)
    if len(told) > longest and isinstance(deed, Sent):
        told = _ENCODER.encode(msgspec.structs.replace(deed, prompts=(), namespace=Namespace()))
    return told


def encoded(deeds: Sequence[Deed | msgspec.Raw]) -> bytes:
    return _ENCODER.encode(deeds)


def decoded(payload: bytes) -> list[Deed]:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(payload)

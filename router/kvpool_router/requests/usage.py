"""What an engine reports at the end of an answer, in each API's words, and how it is asked to."""

from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct


class Usage(NamedTuple):
    """Tokens of one answered request."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    """Null where the engine does not say (it needs `--enable-prompt-tokens-details`)."""


class _Details(Struct):
    cached_tokens: int | None = None


class _Counts(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Nested(Struct):
    usage: _Counts | None = None


class _Answer(Struct):
    usage: _Counts | None = None
    response: _Nested | None = None
    message: _Nested | None = None


_answer = msgspec.json.Decoder(_Answer)
_fields = msgspec.json.Decoder(dict[str, Raw])

_OPTIONS = b'{"include_usage":true}'
_LAST_FIELD = b',"stream_options":' + _OPTIONS + b"}"


def asking_for_usage(body: bytes) -> bytes:
    """The body of a stream, a JSON object with at least one field, so that one event with the usage ends its answer.

    All else stays as the client wrote it, byte for byte where it named no options of its own. The engine's own switch,
    `--enable-force-include-usage`, is no substitute: it writes usage into every event of every stream.
    """
    if b'"stream_options"' in body:
        return msgspec.json.encode(_fields.decode(body) | {"stream_options": Raw(_OPTIONS)})
    return body[: body.rindex(b"}")] + _LAST_FIELD


def usage_of(answer: bytes) -> Usage | None:
    """Usage of a JSON answer or of one stream event's data; None where it holds none, or is no JSON."""
    try:
        found = _answer.decode(answer)
    except msgspec.DecodeError:
        return None
    counts = found.usage
    for nested in (found.response, found.message):
        if counts is None and nested is not None:
            counts = nested.usage
    return None if counts is None else _usage(counts)


def _usage(counts: _Counts) -> Usage | None:
    if counts.prompt_tokens is not None:
        cached = None if counts.prompt_tokens_details is None else counts.prompt_tokens_details.cached_tokens
        return Usage(counts.prompt_tokens, counts.completion_tokens or 0, cached)
    if counts.input_tokens is None:
        return None
    if counts.input_tokens_details is not None:
        return Usage(counts.input_tokens, counts.output_tokens or 0, counts.input_tokens_details.cached_tokens)
    read = counts.cache_read_input_tokens
    prompt = counts.input_tokens + (read or 0) + (counts.cache_creation_input_tokens or 0)
    return Usage(prompt, counts.output_tokens or 0, read)

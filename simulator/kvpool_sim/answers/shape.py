"""What each API's shape must be able to write."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

encode = msgspec.json.encode


class Usage(NamedTuple):
    """Tokens of one answer, over all its prompts, or of one choice while it is streamed.

    `cached` and `created` (tokens that it put into the cache) are those of one of its requests, as vLLM has it, and
    None where the engine was not told to say them.
    """

    prompt: int
    completion: int
    cached: int | None
    created: int | None = None

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Heading:
    """What is the same in each part of an answer."""

    id: str
    created: int
    model: str
    max_tokens: int
    choices: int = 1
    prompt_ids: list[int] | None = None
    """Of a chat that is to tell them."""
    instructions: str | None = None


class Likely(NamedTuple):
    """A token that the model says, and how likely it and others in its place were (natural logarithms)."""

    text: str
    logprob: float
    others: list[tuple[str, float]]
    """The likeliest, the said one among them; as many as were asked for."""


class Piece(NamedTuple):
    """One output token of one choice, as it is streamed."""

    choice: int
    text: str
    token: int
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    likely: Likely | None = None
    tells_ids: bool = False
    prompt_ids: list[int] | None = None
    """With the first token, where they are to be told."""
    offset: int = 0
    """Characters of the choice before it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to one prompt."""

    text: str
    finish_reason: str
    stop_reason: str | int | None = None
    ids: list[int] | None = None
    prompt_ids: list[int] | None = None
    likely: list[Likely] | None = None


class Shape(Protocol):
    """One answer in one API's shape. Parts of a stream are whole server-sent events."""

    def opening(self, usage: Usage) -> bytes: ...

    def token(self, piece: Piece, usage: Usage) -> bytes: ...

    def closing(self, choices: list[Choice], usage: Usage) -> bytes: ...

    def whole(self, choices: list[Choice], usage: Usage) -> bytes: ...


def event(data: object) -> bytes:
    return b"data: " + encode(data) + b"\n\n"


def named_event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\n" + event(data)


DONE = b"data: [DONE]\n\n"
FINGERPRINT = "vllm-0.32.0-simulated"

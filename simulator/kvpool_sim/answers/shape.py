"""What each API's shape must be able to write."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

encode = msgspec.json.encode


class Usage(NamedTuple):
    """Tokens of one answer, over all its prompts, or of one choice while it is streamed.

    `cached` and `created` (tokens that it put into the cache) are None where the engine was not told to say them.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """One prompt's answer."""

    text: str
    finish_reason: str


class Shape(Protocol):
    """One answer in one API's shape. Parts of a stream are whole server-sent events."""

    def opening(self, usage: Usage) -> bytes: ...

    def token(self, index: int, text: str, finish_reason: str | None, usage: Usage) -> bytes: ...

    def closing(self, choices: list[Choice], usage: Usage) -> bytes: ...

    def whole(self, choices: list[Choice], usage: Usage) -> bytes: ...


def event(data: object) -> bytes:
    return b"data: " + encode(data) + b"\n\n"


def named_event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\n" + event(data)


DONE = b"data: [DONE]\n\n"
FINGERPRINT = "vllm-0.32.0-simulated"

"""What a request asks the engine to read, in each form a client may send it."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
from kvpool_api.wire import UntokenizedCause

from kvpool_router.index.runs import TOKEN_BYTES

TokenIds: TypeAlias = bytes
"""Little-endian uint32, four bytes a token: its length is in bytes, `token_count` is in tokens."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Message: TypeAlias = dict[str, Json]


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids as the client sent them."""

    ids: TokenIds


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Plain text of `/v1/completions`."""

    text: str
    add_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages to be rendered by the model's chat template, as vLLM 0.32 understands them."""

    messages: list[Message]
    tools: list[Json] | None = None
    template_arguments: Mapping[str, Json] = field(default_factory=dict)
    """Further variables of the template, such as `enable_thinking` or `documents`."""
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    calls_no_tool: bool = False
    """The client forbids calls; its tools are printed all the same, unless an engine is told otherwise."""
    late_system: bool = False
    """System messages stand inside the conversation; where the template refuses that, they are merged at its head."""
    no_thinking: bool = False
    """Thinking is switched off by whatever effort the template honours."""

    @property
    def needs_probes(self) -> bool:
        """What becomes of it depends on what the engine found out about its template."""
        return self.late_system or self.no_thinking


@dataclass(frozen=True, slots=True)
class OpaquePrompt:
    """A prompt whose tokens cannot be told here; it is placed by load alone."""

    cause: UntokenizedCause
    reason: str
    """One clause."""


Prompt: TypeAlias = TokenPrompt | TextPrompt | ChatPrompt | OpaquePrompt


def packed(ids: list[int]) -> TokenIds:
    """Token ids as bytes; every platform that engines run on is little-endian, as is the array.

    Raises TypeError or OverflowError: not all are unsigned integers of 32 bits.
    """
    found = array("I")
    found.fromlist(ids)
    return found.tobytes()


def token_count(ids: TokenIds) -> int:
    """How many tokens `ids` holds; its length is in bytes."""
    return len(ids) // TOKEN_BYTES


def decode_json(raw: msgspec.Raw | bytes) -> Json:
    """Any JSON value; raises msgspec.DecodeError."""
    value: Json = msgspec.json.decode(raw)
    return value

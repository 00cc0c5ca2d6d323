"""Bodies of the inference APIs as prompts in tokens and what to do with them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from kvpool_sim.answers.openai import UsageRule
from kvpool_sim.core.engine import Limits
from kvpool_sim.refusal import Refusal, missing, mistyped
from kvpool_sim.settings import VOCABULARY
from kvpool_sim.vocabulary import Vocabulary

Api = Literal["chat", "completion", "responses", "messages"]
Body = Mapping[str, Any]

_COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions."""


class _Message(msgspec.Struct):
    """Of a conversation. Items of other kinds, such as function calls, have no role."""

    role: str
    content: str | list[str | dict[str, Any]] | None = None


class _Item(msgspec.Struct):
    role: str | None = None
    content: str | list[str | dict[str, Any]] | None = None


class _Form(msgspec.Struct):
    """Types of the fields that are read; all others pass."""

    model: str | None = None
    prompt: str | list[int | str | list[int]] | None = None
    messages: list[_Message] | None = None
    input: str | list[_Item] | None = None
    instructions: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    cache_salt: str | None = None
    tokens: list[Annotated[int, msgspec.Meta(ge=0)]] | None = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request."""

    api: Api
    prompts: list[array[int]]
    max_tokens: int
    stops_by_itself: bool
    salt: str | None
    stream: bool
    usage: UsageRule


class Reader:
    """Turns bodies into asks. Raises Refusal for what vLLM would refuse."""

    def __init__(self, vocabulary: Vocabulary, limits: Limits, *, force_usage: bool) -> None:
        self._vocabulary = vocabulary
        self._limits = limits
        self._force_usage = force_usage

    def read(self, api: Api, body: Body) -> Ask:
        prompts = self.prompts(api, body)
        wanted = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens")
        if wanted is None and api == "completion":
            wanted = _COMPLETION_TOKENS
        return Ask(
            api,
            prompts,
            self._max_tokens(wanted, max(map(len, prompts))),
            not body.get("ignore_eos", False),
            body.get("cache_salt"),
            bool(body.get("stream")),
            self._usage_rule(body),
        )

    def prompts(self, api: Api, body: Body) -> list[array[int]]:
        """Token ids of each prompt of the body."""
        check(body)
        match api:
            case "chat":
                found = [self._chat(_required(body, "messages"), body)]
            case "responses":
                found = [self._chat(_responses_messages(body), body)]
            case "messages":
                found = [self._chat(_anthropic_messages(body), body)]
            case "completion":
                found = [self._checked(prompt) for prompt in _listed(body.get("prompt"))]
        if not found or not all(found):
            text = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
            raise Refusal(400, text, param="prompt")
        return found

    def _chat(self, messages: Sequence[dict[str, Any]], body: Body) -> array[int]:
        if not messages:
            raise Refusal(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
        plain = [message | {"content": _text(message.get("content"))} for message in messages]
        arguments = dict(body.get("chat_template_kwargs") or {})
        if "add_generation_prompt" in body:
            arguments["add_generation_prompt"] = body["add_generation_prompt"]
        return self._vocabulary.encode(self._vocabulary.chat(plain, body.get("tools") or None, arguments))

    def _checked(self, prompt: str | list[int]) -> array[int]:
        if isinstance(prompt, str):
            return self._vocabulary.encode(prompt)
        if prompt and not 0 <= min(prompt) <= max(prompt) < VOCABULARY:
            raise Refusal(400, f"Token id {max(prompt)} is out of vocabulary")
        return array("I", prompt)

    def _max_tokens(self, wanted: int | None, prompt_tokens: int) -> int:
        longest = self._limits.max_model_len
        if wanted is not None and wanted < 1:
            text = f"max_tokens must be at least 1, got {wanted}. (parameter=max_tokens, value={wanted})"
            raise Refusal(400, text, param="max_tokens")
        if wanted is not None and wanted > longest:
            text = (
                f"max_tokens={wanted} cannot be greater than max_model_len={longest}. Please request fewer output "
                f"tokens. (parameter=max_tokens, value={wanted})"
            )
            raise Refusal(400, text, param="max_tokens")
        if prompt_tokens + (wanted or 1) > longest:
            text = (
                f"This model's maximum context length is {longest} tokens. However, you requested {wanted or 1} output "
                f"tokens and your prompt contains at least {prompt_tokens} input tokens. Please reduce the length of "
                "the input prompt or the number of requested output tokens."
            )
            raise Refusal(400, text, param="input_tokens")
        return wanted or longest - prompt_tokens

    def _usage_rule(self, body: Body) -> UsageRule:
        options = body.get("stream_options") or {}
        asked = bool(options.get("include_usage"))
        in_each = asked and bool(options.get("continuous_usage_stats"))
        return UsageRule(asked or self._force_usage, in_each or self._force_usage)


def check(body: Body) -> None:
    """Raises Refusal: a field that is read has another type than it should."""
    try:
        msgspec.convert(body, _Form)
    except msgspec.ValidationError as error:
        raise mistyped(str(error)) from error


def _required(body: Body, field: str) -> Any:  # noqa: ANN401 - JSON
    if body.get(field) is None:
        raise missing(field)
    return body[field]


def _listed(prompt: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """A text, ids, several texts, or several lists of ids."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return prompt
    return [prompt] if prompt else []


def _text(content: Any) -> str:  # noqa: ANN401 - JSON
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


def _responses_messages(body: Body) -> list[dict[str, Any]]:
    given = _required(body, "input")
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return system + [{key: value for key, value in item.items() if key != "type"} for item in items]


def _anthropic_messages(body: Body) -> list[dict[str, Any]]:
    given = body.get("system")
    parts = given if isinstance(given, list) else []
    joined = given if isinstance(given, str) else "".join(str(part.get("text", "")) for part in parts)
    system = [{"role": "system", "content": joined}] if joined else []
    return system + list(_required(body, "messages"))

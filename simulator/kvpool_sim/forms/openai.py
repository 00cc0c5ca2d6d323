"""`/v1/completions` and `/v1/chat/completions`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, field_validator, model_validator

from kvpool_sim.conversation import Talk, check_parts, template_arguments
from kvpool_sim.forms.base import Body, Echo, Function, Ids, Sampled, Stops, stop_strings
from kvpool_sim.refusal import Refusal, named
from kvpool_sim.sampling import Sampling

_COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions."""


class _StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _OpenAiForm(Sampled):
    """`/v1/completions` and `/v1/chat/completions`."""

    n: int | None = 1
    max_tokens: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int = 0
    stop: str | Stops | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    stream_options: _StreamOptions | None = None
    add_special_tokens: bool = False
    return_token_ids: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _options_of_a_stream(cls, body: Body) -> Body:
        if body.get("stream_options") and not body.get("stream"):
            raise named("stream_options", "Stream options can only be defined when `stream=True`.")
        return body

    def sampling(self) -> Sampling:
        return Sampling(
            **self._common(),
            n=1 if self.n is None else self.n,
            max_tokens=self.limit(),
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            min_tokens=self.min_tokens,
            stop=stop_strings(self.stop),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            include_stop_str_in_output=self.include_stop_str_in_output,
            ignore_eos=self.ignore_eos,
            logprobs=self.told_logprobs(),
        )

    def limit(self) -> int | None:
        return self.max_tokens

    def tells_ids(self) -> bool:
        return bool(self.return_token_ids)

    def told_logprobs(self) -> int | None:
        raise NotImplementedError

    def wants_usage(self) -> tuple[bool, bool]:
        options = self.stream_options or _StreamOptions()
        return bool(options.include_usage), bool(options.include_usage and options.continuous_usage_stats)


class CompletionForm(_OpenAiForm):
    """`/v1/completions`."""

    prompt: Ids | list[Ids] | str | list[str] | None = None
    n: int = 1
    max_tokens: int | None = _COMPLETION_TOKENS
    echo: bool | None = False
    logprobs: int | None = None

    @field_validator("max_tokens", mode="before")
    @classmethod
    def _default(cls, given: object) -> object:
        return _COMPLETION_TOKENS if given is None else given

    def limit(self) -> int | None:
        return 1 if self.echoes() == "prompt alone" else self.max_tokens

    def told_logprobs(self) -> int | None:
        return self.logprobs

    def echoes(self) -> Echo:
        if not self.echo:
            return "nothing"
        return "prompt alone" if self.max_tokens == 0 else "prompt"

    def listed(self) -> list[str] | list[Ids]:
        """A text, ids, several texts, or several lists of ids. Raises Refusal: nothing is there."""
        prompt = self.prompt
        if prompt is None or prompt == "":
            raise named("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
        if not prompt:
            raise Refusal(400, "You must pass at least one prompt")
        # Pydantic has seen to it that all items are like the first.
        return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt  # type: ignore[return-value]


class _ChatTool(BaseModel):
    type: Literal["function"] = "function"
    function: Function
    defer_loading: bool | None = None

    def printed(self) -> dict[str, Any]:
        if self.defer_loading is None:
            return self.function.printed()
        function = self.function
        if function.defer_loading is None:
            function = function.model_copy(update={"defer_loading": self.defer_loading})
        return {**function.printed(), "defer_loading": self.defer_loading}


class _CalledFunction(BaseModel, extra="allow"):
    arguments: str
    name: str


class _Call(BaseModel, extra="allow"):
    id: str
    function: _CalledFunction
    type: Literal["function"]


class _ChatMessage(BaseModel, extra="allow"):
    role: str
    content: str | list[Any] | None = None
    tool_calls: list[_Call] | None = None


class ChatForm(_OpenAiForm):
    """`/v1/chat/completions`, and chats of `/tokenize`."""

    messages: list[_ChatMessage]
    tools: list[_ChatTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = "none"
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    documents: list[dict[str, str]] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @model_validator(mode="before")
    @classmethod
    def _tools_that_are_there(cls, body: Body) -> Body:
        tools = body.get("tools")
        if tools == []:
            mend = "Either provide at least one tool or omit the field entirely."
            raise named("tools", f"`tools` must not be an empty array. {mend}")
        if body.get("tool_choice", "none") not in (None, "none") and tools is None:
            raise named("tool_choice", "When using `tool_choice`, `tools` must be set.")
        if body.get("top_logprobs") and not body.get("logprobs"):
            raise named("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
        return {**body, "tool_choice": "auto"} if tools and "tool_choice" not in body else body

    @model_validator(mode="after")
    def _named_tool(self) -> Self:
        wanted = self._function_wanted()
        if wanted is not None and wanted not in {tool.function.name for tool in self.tools or ()}:
            text = "The tool specified in `tool_choice` does not match any of the specified `tools`"
            raise named("tool_choice", text)
        return self

    @property
    def limit_field(self) -> str:
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def told_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def talk(self) -> Talk:
        if self.add_generation_prompt and self.continue_final_message:
            raise Refusal(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        if self.chat_template is not None or (self.chat_template_kwargs or {}).get("chat_template") is not None:
            why = "--trust-request-chat-template is not set. Refused request with untrusted chat template."
            raise Refusal(400, f"Chat template is passed with request, but {why}")
        messages = [message.model_dump(exclude_unset=True) for message in self.messages]
        check_parts(messages)
        return Talk(
            messages,
            None if self.tools is None else [tool.printed() for tool in self.tools],
            template_arguments(self.chat_template_kwargs, self.reasoning_effort, self.documents),
            self.add_generation_prompt,
            self.continue_final_message,
        )

    def tool_choice_needing_a_parser(self) -> str | None:
        wanted = self._function_wanted()
        if wanted is not None:
            return f'function "{wanted}"'
        return None if self.tool_choice in (None, "none") else f'"{self.tool_choice}"'

    def _function_wanted(self) -> str | None:
        return None if not isinstance(self.tool_choice, dict) else str(self.tool_choice.get("function", {}).get("name"))

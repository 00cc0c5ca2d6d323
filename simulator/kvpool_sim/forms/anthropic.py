"""`/v1/messages` and its `count_tokens`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, field_validator

from kvpool_sim.conversation import Talk, from_anthropic, template_arguments
from kvpool_sim.forms.base import Form, Function, Reasoning, Sampled, Stops
from kvpool_sim.sampling import Sampling


class _Block(BaseModel):
    type: Literal[
        "text", "image", "tool_use", "tool_result", "tool_reference", "thinking", "redacted_thinking",
        "tool_addition", "tool_removal",
    ]  # fmt: skip
    text: str | None = None
    source: dict[str, Any] | None = None
    id: str | None = None
    tool_use_id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    content: str | list[dict[str, Any]] | None = None
    thinking: str | None = None


class _AnthropicMessage(BaseModel):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _AnthropicTool(BaseModel):
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    defer_loading: bool | None = None

    def printed(self) -> dict[str, Any]:
        schema = self.input_schema if "type" in self.input_schema else {**self.input_schema, "type": "object"}
        told = self.model_dump(exclude={"input_schema"})
        return Function(**told, parameters=schema).printed()


class _AnthropicChoice(BaseModel):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class CountForm(Form):
    """`/v1/messages/count_tokens`."""

    model: str
    messages: list[_AnthropicMessage]
    system: str | list[_Block] | None = None
    tools: list[_AnthropicTool] | None = None
    tool_choice: _AnthropicChoice | None = None
    output_config: Reasoning | None = None

    def talk(self) -> Talk:
        system = self.system if isinstance(self.system, str | None) else [block.model_dump() for block in self.system]
        return Talk(
            from_anthropic([message.model_dump() for message in self.messages], system),
            None if self.tools is None else [tool.printed() for tool in self.tools],
            template_arguments(self.chat_template_kwargs, self.output_config.effort if self.output_config else None),
        )

    def tool_choice_needing_a_parser(self) -> str | None:
        if self.tool_choice is None:
            return None if self.tools is None else '"auto"'
        wanted = {"auto": '"auto"', "any": '"required"', "tool": f'function "{self.tool_choice.name}"'}
        return wanted.get(self.tool_choice.type)


class MessagesForm(CountForm, Sampled):
    """`/v1/messages`."""

    max_tokens: int
    stop_sequences: Stops | None = None

    @field_validator("max_tokens")
    @classmethod
    def _positive(cls, given: int) -> int:
        if given <= 0:
            raise ValueError("max_tokens must be positive")
        return given

    @property
    def limit_field(self) -> str:
        return "max_completion_tokens"

    def sampling(self) -> Sampling:
        return Sampling(**self._common(), max_tokens=self.max_tokens, stop=tuple(self.stop_sequences or ()))

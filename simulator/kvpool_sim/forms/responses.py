"""`/v1/responses`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kvpool_sim.conversation import Talk, from_responses, is_cut_short, template_arguments
from kvpool_sim.forms.base import Function, Reasoning, Sampled, Stops, stop_strings
from kvpool_sim.sampling import Sampling


class _ResponsesTool(Function):
    type: Literal["function"]


class ResponsesForm(Sampled):
    """`/v1/responses`. Of its tools, only functions."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[_ResponsesTool] = Field(default_factory=list)
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = None
    stop: str | Stops | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    previous_response_id: str | None = None

    @property
    def limit_field(self) -> str:
        return "max_output_tokens"

    def stored_response(self) -> str | None:
        return self.previous_response_id

    def instructed(self) -> str | None:
        return self.instructions

    def sampling(self) -> Sampling:
        return Sampling(
            **self._common(),
            max_tokens=self.max_output_tokens,
            stop=stop_strings(self.stop),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            include_stop_str_in_output=self.include_stop_str_in_output,
            ignore_eos=self.ignore_eos,
        )

    def talk(self) -> Talk:
        continues = is_cut_short(self.input)
        return Talk(
            from_responses(self.input, self.instructions),
            [tool.printed() for tool in self.tools] or None,
            template_arguments(self.chat_template_kwargs, self.reasoning.effort if self.reasoning else None),
            not continues,
            continues,
        )

"""`/v1/responses`."""

from kvpool_sim.answers.ids import random_id
from kvpool_sim.answers.shape import Choice, Heading, Piece, Usage, encode, named_event

Json = dict[str, object]


class ResponsesShape:
    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._item_id = f"msg_{random_id()}"
        self._sequence = 0

    def opening(self, usage: Usage) -> bytes:
        begun = self._response("in_progress", [], None)
        item = self._item("in_progress", [])
        part: Json = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
        return (
            self._event("response.created", {"response": begun})
            + self._event("response.in_progress", {"response": begun})
            + self._event("response.output_item.added", {"item": item, "output_index": 0})
            + self._event("response.content_part.added", self._place() | {"part": part})
        )

    def token(self, piece: Piece, usage: Usage) -> bytes:
        return self._event("response.output_text.delta", self._place() | {"delta": piece.text, "logprobs": []})

    def closing(self, choices: list[Choice], usage: Usage) -> bytes:
        text = choices[0].text
        part = _text_part(text)
        item = self._item("completed", [part])
        return (
            self._event("response.output_text.done", self._place() | {"logprobs": [], "text": text})
            + self._event("response.content_part.done", self._place() | {"part": part})
            + self._event("response.output_item.done", {"item": item, "output_index": 0})
            + self._event("response.completed", {"response": self._ended(choices, usage)})
        )

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        return encode(self._ended(choices, usage))

    def _ended(self, choices: list[Choice], usage: Usage) -> Json:
        item = self._item("completed", [_text_part(choices[0].text)])
        cut = choices[0].finish_reason == "length"
        ended = self._response("incomplete" if cut else "completed", [item], _usage(usage))
        return ended | {"incomplete_details": {"reason": "max_output_tokens"} if cut else None}

    def _response(self, status: str, output: list[Json], usage: Json | None) -> Json:
        heading = self._heading
        return {
            "id": heading.id,
            "created_at": heading.created,
            "incomplete_details": None,
            "instructions": heading.instructions,
            "metadata": None,
            "model": heading.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": heading.max_tokens,
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": usage,
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def _item(self, status: str, content: list[Json]) -> Json:
        item: Json = {"id": self._item_id, "content": content, "role": "assistant"}
        return item | {"status": status, "type": "message", "phase": None}

    def _place(self) -> Json:
        return {"content_index": 0, "item_id": self._item_id, "output_index": 0}

    def _event(self, kind: str, data: Json) -> bytes:
        numbered = data | {"sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        return named_event(kind, dict(sorted(numbered.items())))


def _text_part(text: str) -> Json:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached or 0,
            "cache_write_tokens": usage.created or 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": usage.total,
    }

"""`/v1/messages`."""

from kvpool_sim.answers.shape import Choice, Heading, Usage, encode, named_event

_STOP_REASONS = {"length": "max_tokens", "stop": "end_turn"}


class MessagesShape:
    def __init__(self, heading: Heading) -> None:
        self._message: dict[str, object] = {"id": heading.id, "type": "message", "role": "assistant"}
        self._model = heading.model

    def opening(self, usage: Usage) -> bytes:
        message = self._message | {
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": usage.prompt, "output_tokens": 0},
        }
        block = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}, "index": 0}
        started = named_event("message_start", {"type": "message_start", "message": message})
        return started + named_event("content_block_start", block)

    def token(self, index: int, text: str, finish_reason: str | None, usage: Usage) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return named_event("content_block_delta", {"type": "content_block_delta", "delta": delta, "index": index})

    def closing(self, choices: list[Choice], usage: Usage) -> bytes:
        reason = {"stop_reason": _STOP_REASONS[choices[0].finish_reason], "stop_sequence": None}
        stopped = named_event("content_block_stop", {"type": "content_block_stop", "index": 0})
        ended = named_event("message_delta", {"type": "message_delta", "delta": reason, "usage": _usage(usage)})
        return stopped + ended + named_event("message_stop", {"type": "message_stop"})

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        first = choices[0]
        return encode(
            self._message
            | {
                "content": [{"type": "text", "text": first.text}],
                "model": self._model,
                "stop_reason": _STOP_REASONS[first.finish_reason],
                "usage": _usage(usage),
            }
        )


def _usage(usage: Usage) -> dict[str, int]:
    """Like vLLM: `input_tokens` are those neither read from the cache nor put into it; the others only if told."""
    if usage.cached is None:
        return {"input_tokens": usage.prompt, "output_tokens": usage.completion}
    created = usage.created or 0
    return {
        "input_tokens": usage.prompt - usage.cached - created,
        "output_tokens": usage.completion,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": usage.cached,
    }

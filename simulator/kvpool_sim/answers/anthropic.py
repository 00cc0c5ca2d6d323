"""`/v1/messages`."""

from kvpool_sim.answers.shape import Choice, Heading, Piece, Usage, encode, named_event

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

    def token(self, piece: Piece, usage: Usage) -> bytes:
        if not piece.text:
            return b""
        delta = {"type": "text_delta", "text": piece.text}
        return named_event("content_block_delta", {"type": "content_block_delta", "delta": delta, "index": 0})

    def closing(self, choices: list[Choice], usage: Usage) -> bytes:
        reason, sequence = _stop(choices[0])
        why = {"stop_reason": reason, "stop_sequence": sequence}
        stopped = named_event("content_block_stop", {"type": "content_block_stop", "index": 0})
        ended = named_event("message_delta", {"type": "message_delta", "delta": why, "usage": _usage(usage)})
        return stopped + ended + named_event("message_stop", {"type": "message_stop"})

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        reason, sequence = _stop(choices[0])
        return encode(
            self._message
            | {"content": [{"type": "text", "text": choices[0].text}], "model": self._model, "stop_reason": reason}
            | ({} if sequence is None else {"stop_sequence": sequence})
            | {"usage": _usage(usage)}
        )


def _stop(choice: Choice) -> tuple[str | None, str | None]:
    """Why it stopped, and at which of the client's sequences."""
    if choice.finish_reason == "stop" and isinstance(choice.stop_reason, str):
        return "stop_sequence", choice.stop_reason
    return _STOP_REASONS.get(choice.finish_reason), None


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

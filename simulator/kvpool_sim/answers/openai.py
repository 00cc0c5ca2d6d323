"""`/v1/chat/completions` and `/v1/completions`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kvpool_sim.answers.logprobs import of_chat, of_completion
from kvpool_sim.answers.shape import DONE, FINGERPRINT, Choice, Heading, Piece, Usage, encode, event

_FINGERPRINT_FIELD = b',"system_fingerprint":' + encode(FINGERPRINT)


@dataclass(frozen=True, slots=True)
class UsageRule:
    """Which parts of a stream carry usage."""

    at_end: bool
    in_each: bool


def usage_object(usage: Usage, *, tells_created: bool) -> dict[str, object]:
    details = {
        "cached_tokens": usage.cached,
        "created_cache_tokens": usage.created if tells_created else None,
        "multimodal_tokens": None,
    }
    return {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.total,
        "completion_tokens": usage.completion,
        "prompt_tokens_details": None if usage.cached is None else details,
        "completion_tokens_details": None,
    }


class _OpenAi(ABC):
    """What the two have in common: a stream's envelope, written once and only filled in for each token."""

    whole_object: str
    chunk_object: str
    tells_created: bool
    """Whether the tokens put into the cache are told beside the reused ones."""

    def __init__(self, heading: Heading, rule: UsageRule) -> None:
        self._heading = heading
        self._rule = rule
        self._envelope = {"id": heading.id, "object": self.chunk_object, "created": heading.created}
        self._envelope |= {"model": heading.model}
        self._prefix = b"data: " + encode(self._envelope)[:-1] + b',"choices":[{"index":'

    def token(self, piece: Piece, usage: Usage) -> bytes:
        # The engine's mark goes onto the last part that tells anything: usage, if there will be one.
        marked = piece.finish_reason is not None and not self._rule.at_end
        return self._chunk(piece.choice, self._choice(piece), usage, _FINGERPRINT_FIELD if marked else b"")

    @abstractmethod
    def _choice(self, piece: Piece) -> bytes: ...

    def _chunk(self, index: int, choice: bytes, usage: Usage, trailer: bytes = b"") -> bytes:
        told = self._running_usage(usage) if self._rule.in_each else b""
        return b"%b%d,%b}]%b%b}\n\n" % (self._prefix, index, choice, told, trailer)

    @abstractmethod
    def _running_usage(self, usage: Usage) -> bytes: ...

    def closing(self, choices: list[Choice], usage: Usage) -> bytes:
        if not self._rule.at_end:
            return DONE
        told = {"prompt_tokens": usage.prompt, "total_tokens": usage.total, "completion_tokens": usage.completion}
        details = {} if usage.cached is None else {"cached_tokens": usage.cached}
        if details and self.tells_created:
            details["created_cache_tokens"] = usage.created or 0
        last = self._envelope | {"choices": [], "usage": told | ({"prompt_tokens_details": details} if details else {})}
        return event(last | {"system_fingerprint": FINGERPRINT}) + DONE

    def _whole(self, written: list[dict[str, object]], usage: Usage) -> bytes:
        answer = self._envelope | {
            "object": self.whole_object,
            "choices": written,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage_object(usage, tells_created=self.tells_created),
        }
        return encode(answer | self._trailing())

    def _trailing(self) -> dict[str, object]:
        return {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}


class ChatShape(_OpenAi):
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    tells_created = True

    def opening(self, usage: Usage) -> bytes:
        first = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null'
        trailer = b',"prompt_token_ids":%b,"prompt_text":null' % encode(self._heading.prompt_ids)
        return b"".join(self._chunk(index, first, usage, trailer) for index in range(self._heading.choices))

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        return self._whole([_chat_choice(index, choice) for index, choice in enumerate(choices)], usage)

    def _choice(self, piece: Piece) -> bytes:
        ended = b"null"
        if piece.finish_reason is not None:
            ended = encode(piece.finish_reason) + b',"stop_reason":' + encode(piece.stop_reason)
        return b'"delta":{"content":%b},"logprobs":%b,"finish_reason":%b,"token_ids":%b' % (
            encode(piece.text),
            b"null" if piece.likely is None else encode(of_chat([piece.likely])),
            ended,
            b"[%d]" % piece.token if piece.tells_ids else b"null",
        )

    def _running_usage(self, usage: Usage) -> bytes:
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (usage.prompt, usage.total, usage.completion)
        )

    def _trailing(self) -> dict[str, object]:
        told = {"prompt_logprobs": None, "prompt_token_ids": self._heading.prompt_ids, "prompt_text": None}
        return told | super()._trailing()


def _chat_choice(index: int, choice: Choice) -> dict[str, object]:
    absent = ("refusal", "annotations", "audio", "function_call", "reasoning")
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text} | dict.fromkeys(absent),
        "logprobs": None if choice.likely is None else of_chat(choice.likely),
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
        "token_ids": choice.ids,
        "routed_experts": None,
    }


class CompletionShape(_OpenAi):
    whole_object = "text_completion"
    chunk_object = "text_completion"
    tells_created = False

    def opening(self, usage: Usage) -> bytes:
        return b""

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        return self._whole([_completion_choice(index, choice) for index, choice in enumerate(choices)], usage)

    def _choice(self, piece: Piece) -> bytes:
        return b'"text":%b,"logprobs":%b,"finish_reason":%b,"stop_reason":%b,"prompt_token_ids":%b,"token_ids":%b' % (
            encode(piece.text),
            b"null" if piece.likely is None else encode(of_completion([piece.likely], piece.offset)),
            encode(piece.finish_reason),
            encode(piece.stop_reason),
            encode(piece.prompt_ids),
            b"[%d]" % piece.token if piece.tells_ids else b"null",
        )

    def _running_usage(self, usage: Usage) -> bytes:
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            usage.prompt,
            usage.total,
            usage.completion,
        )


def _completion_choice(index: int, choice: Choice) -> dict[str, object]:
    return {
        "index": index,
        "text": choice.text,
        "logprobs": None if choice.likely is None else of_completion(choice.likely, 0),
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
        "token_ids": choice.ids,
        "prompt_logprobs": None,
        "prompt_token_ids": choice.prompt_ids,
        "routed_experts": None,
    }

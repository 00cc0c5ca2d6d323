"""`/v1/chat/completions` and `/v1/completions`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kvpool_sim.answers.shape import DONE, FINGERPRINT, Choice, Heading, Usage, encode, event


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
        return self._chunk(0, first, usage, b',"prompt_token_ids":null,"prompt_text":null')

    def token(self, index: int, text: str, finish_reason: str | None, usage: Usage) -> bytes:
        ended = b"null" if finish_reason is None else encode(finish_reason) + b',"stop_reason":null'
        choice = b'"delta":{"content":%b},"logprobs":null,"finish_reason":%b,"token_ids":null' % (encode(text), ended)
        return self._chunk(index, choice, usage)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        return self._whole([_chat_choice(index, choice) for index, choice in enumerate(choices)], usage)

    def _running_usage(self, usage: Usage) -> bytes:
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"completion_tokens_details":null}'
            % (usage.prompt, usage.total, usage.completion)
        )

    def _trailing(self) -> dict[str, object]:
        return {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None} | super()._trailing()


def _chat_choice(index: int, choice: Choice) -> dict[str, object]:
    absent = ("refusal", "annotations", "audio", "function_call", "reasoning")
    return {
        "index": index,
        "message": {"role": "assistant", "content": choice.text} | dict.fromkeys(absent),
        "logprobs": None,
        "finish_reason": choice.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }


class CompletionShape(_OpenAi):
    whole_object = "text_completion"
    chunk_object = "text_completion"
    tells_created = False

    def opening(self, usage: Usage) -> bytes:
        return b""

    def token(self, index: int, text: str, finish_reason: str | None, usage: Usage) -> bytes:
        ended = b"null" if finish_reason is None else encode(finish_reason)
        choice = (
            b'"text":%b,"logprobs":null,"finish_reason":%b,"stop_reason":null,"prompt_token_ids":null,"token_ids":null'
            % (encode(text), ended)
        )
        return self._chunk(index, choice, usage)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        absent = ("stop_reason", "token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts")
        return self._whole(
            [
                {"index": index, "text": choice.text, "logprobs": None, "finish_reason": choice.finish_reason}
                | dict.fromkeys(absent)
                for index, choice in enumerate(choices)
            ],
            usage,
        )

    def _running_usage(self, usage: Usage) -> bytes:
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            usage.prompt,
            usage.total,
            usage.completion,
        )

"""Asks a ready engine's `/tokenize`: always right, at the price of a call and of the text tokenized twice there."""

from collections.abc import Callable

import aiohttp
import msgspec
from kvpool_api.wire import ASKS_ENGINES

from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, Prompt, TextPrompt, TokenIds, TokenPrompt, packed
from kvpool_router.tokens.protocol import Untokenizable

TIMEOUT_S = 2.0


class _Tokenized(msgspec.Struct):
    tokens: list[int]


class EngineTokenizer:
    """Token ids by way of whichever engine is ready."""

    def __init__(self, session: aiohttp.ClientSession, ready_url: Callable[[], str | None], why: str) -> None:
        """`ready_url` answers the base URL of an engine that takes requests now; `why` says what is missing here."""
        self.description = f"{ASKS_ENGINES} for every text: {why}"
        self._session = session
        self._ready_url = ready_url
        self._answer = msgspec.json.Decoder(_Tokenized)

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        match prompt:
            case TokenPrompt(ids):
                return ids
            case OpaquePrompt(reason):
                raise Untokenizable(reason)
            case TextPrompt(text, add_special_tokens):
                return await self._asked({"prompt": text, "add_special_tokens": add_special_tokens})
            case ChatPrompt():
                return await self._asked(_chat_body(prompt))

    async def _asked(self, body: dict[str, object]) -> TokenIds:
        base = self._ready_url()
        if base is None:
            raise Untokenizable("no engine is ready to tokenize it")
        try:
            async with self._session.post(
                base + "/tokenize",
                data=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as answer:
                if answer.status != 200:
                    raise Untokenizable(f"the engine's /tokenize answered {answer.status}")
                return packed(self._answer.decode(await answer.read()).tokens)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OverflowError) as error:
            raise Untokenizable(f"the engine's /tokenize failed: {type(error).__name__} {error}") from error


def _chat_body(prompt: ChatPrompt) -> dict[str, object]:
    body: dict[str, object] = {
        "messages": prompt.messages,
        "add_generation_prompt": prompt.add_generation_prompt,
        "continue_final_message": prompt.continue_final_message,
        "add_special_tokens": prompt.add_special_tokens,
        "chat_template_kwargs": dict(prompt.template_arguments),
    }
    if prompt.tools is not None:
        body["tools"] = prompt.tools
    return body

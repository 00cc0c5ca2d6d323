"""Token ids by an engine's own account: what its `/v1/chat/completions/render` or its `/tokenize` makes of a prompt."""

import aiohttp
import msgspec

from kvpool_router.requests.prompts import ChatPrompt, TextPrompt, TokenIds, packed

TOKENIZE = "/tokenize"
RENDER = "/v1/chat/completions/render"
_NOT_OPENED = frozenset({403, 404, 405, 501})
"""Without `--enable-scale-out`, or before vLLM had it."""


class EngineRefused(Exception):
    """The engine answered, but gave no ids."""

    def __init__(self, path: str, status: int) -> None:
        super().__init__(f"the engine's {path} answered {status}")
        self.not_served = status in _NOT_OPENED
        self.is_the_prompts_fault = status in (400, 422)


class _Rendered(msgspec.Struct):
    token_ids: list[int]


class _Tokenized(msgspec.Struct):
    tokens: list[int]


_rendered = msgspec.json.Decoder(_Rendered)
_tokenized = msgspec.json.Decoder(_Tokenized)


class EngineIds:
    """Asks engines, each by its base URL."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def of_text(self, url: str, prompt: TextPrompt, timeout_s: float) -> TokenIds:
        """See `of_chat`."""
        body = {"prompt": prompt.text, "add_special_tokens": prompt.add_special_tokens}
        return packed(_tokenized.decode(await self._asked(url, TOKENIZE, body, timeout_s)).tokens)

    async def of_chat(self, url: str, prompt: ChatPrompt, timeout_s: float) -> TokenIds:
        """The very code that reads requests answers first; `/tokenize` differs for models with a renderer of their own.

        It also answers where rendering is not opened, or minds how the tools are to be used, which is not told here.

        Raises EngineRefused, aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OverflowError (odd ids).
        """
        body = _chat_body(prompt)
        try:
            answer = await self._asked(url, RENDER, {**body, "tool_choice": _tool_choice(prompt)}, timeout_s)
        except EngineRefused as refused:
            if not (refused.not_served or refused.is_the_prompts_fault):
                raise
            return packed(_tokenized.decode(await self._asked(url, TOKENIZE, body, timeout_s)).tokens)
        return packed(_rendered.decode(answer).token_ids)

    async def _asked(self, url: str, path: str, body: dict[str, object], timeout_s: float) -> bytes:
        async with self._session.post(
            url + path,
            data=msgspec.json.encode({name: value for name, value in body.items() if value is not None}),
            headers={"content-type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            if answer.status != 200:
                raise EngineRefused(path, answer.status)
            return await answer.read()


def _chat_body(prompt: ChatPrompt) -> dict[str, object]:
    return {
        "messages": prompt.messages,
        "add_generation_prompt": prompt.add_generation_prompt,
        "continue_final_message": prompt.continue_final_message,
        "add_special_tokens": prompt.add_special_tokens,
        "chat_template_kwargs": dict(prompt.template_arguments),
        "tools": prompt.tools,
    }


def _tool_choice(prompt: ChatPrompt) -> str | None:
    """Engines may be told to leave tools out where none may be called."""
    return None if prompt.tools is None else "none" if prompt.calls_no_tool else "auto"

"""Asks a ready engine for every prompt's ids: always right, at the price of a call and of the text tokenized twice."""

from collections.abc import Callable

import aiohttp
import msgspec
from kvpool_api.wire import ASKS_ENGINES, UntokenizedCause

from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, Prompt, TextPrompt, TokenIds, TokenPrompt
from kvpool_router.tokens.engine_ids import EngineIds, EngineRefused
from kvpool_router.tokens.protocol import Untokenizable

TIMEOUT_S = 2.0


class EngineTokenizer:
    """Token ids by way of whichever engine is ready."""

    reads_itself = False

    def __init__(self, engines: EngineIds, ready_url: Callable[[], str | None], why: str) -> None:
        """`ready_url` answers the base URL of an engine that takes requests now; `why` says what is missing here."""
        self.description = f"{ASKS_ENGINES} for every text: {why}"
        self._engines = engines
        self._ready_url = ready_url

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        match prompt:
            case TokenPrompt(ids):
                return ids
            case OpaquePrompt(cause, reason):
                raise Untokenizable(cause, reason)
            case ChatPrompt() if prompt.needs_probes:
                why = "only its own endpoint of the engine knows how it is converted"
                raise Untokenizable(UntokenizedCause.ENGINE_ONLY, why)
        base = self._ready_url()
        if base is None:
            raise Untokenizable(UntokenizedCause.ENGINE_FAILED, "no engine is ready to tokenize it")
        try:
            return await self._asked(base, prompt)
        except EngineRefused as refused:
            raise Untokenizable(UntokenizedCause.ENGINE_FAILED, str(refused)) from refused
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OverflowError) as error:
            why = f"the engine that was asked for its ids failed: {type(error).__name__} {error}"
            raise Untokenizable(UntokenizedCause.ENGINE_FAILED, why) from error

    async def _asked(self, base: str, prompt: TextPrompt | ChatPrompt) -> TokenIds:
        if isinstance(prompt, TextPrompt):
            return await self._engines.of_text(base, prompt, TIMEOUT_S)
        return await self._engines.of_chat(base, prompt, TIMEOUT_S)

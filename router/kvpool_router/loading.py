"""The tokenizer while its files are still being loaded or fetched: requests are served from the first second on."""

from collections.abc import Awaitable

from kvpool_router.requests.prompts import Prompt, TokenIds
from kvpool_router.tokens.protocol import Tokenizer


class LoadingTokenizer:
    """Uses `meanwhile` until `settle` has brought the real one."""

    def __init__(self, meanwhile: Tokenizer) -> None:
        self._current = meanwhile
        self.settled = False

    @property
    def description(self) -> str:
        return self._current.description

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        return await self._current.encode(prompt)

    async def settle(self, chosen: Awaitable[Tokenizer]) -> None:
        self._current = await chosen
        self.settled = True

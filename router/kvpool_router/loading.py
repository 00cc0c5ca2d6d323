"""The tokenizer while better ones are still to come: requests are served from the first second on."""

import logging
from collections.abc import AsyncIterator

from kvpool_router.requests.prompts import Prompt, TokenIds
from kvpool_router.tokens.protocol import Tokenizer

LOG = logging.getLogger(__name__)


class LoadingTokenizer:
    """Uses `meanwhile`, then each one that `follow` brings, from that moment on."""

    def __init__(self, meanwhile: Tokenizer) -> None:
        self._current = meanwhile
        self.settled = False
        """What can be had without asking anyone is known; a better one may yet come."""

    @property
    def description(self) -> str:
        return self._current.description

    @property
    def reads_itself(self) -> bool:
        return self._current.reads_itself

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        return await self._current.encode(prompt)

    async def follow(self, chosen: AsyncIterator[Tokenizer]) -> None:
        async for self._current in chosen:
            self.settled = True
            LOG.info("The tokenizer %s.", self.description)

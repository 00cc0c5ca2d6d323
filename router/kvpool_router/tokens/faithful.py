"""The router's own tokenizer for as long as no engine contradicts it; else engines are asked."""

from collections.abc import Callable
from typing import Protocol

from kvpool_router.requests.prompts import Prompt, TokenIds
from kvpool_router.tokens.protocol import Tokenizer


class Contradiction(Protocol):
    """What is known against the own tokenizer."""

    @property
    def doubt(self) -> str | None:
        """One sentence; None while it can be believed."""


class FaithfulTokenizer:
    """Never makes ids that no engine makes, once that is known."""

    def __init__(self, own: Tokenizer, known: Contradiction, engines: Callable[[str], Tokenizer]) -> None:
        """`engines(why)` asks them for every text."""
        self._own = own
        self._known = known
        self._engines = engines

    @property
    def description(self) -> str:
        """As `Tokenizer.description`."""
        return self._in_use().description

    @property
    def reads_itself(self) -> bool:
        """As `Tokenizer.reads_itself`."""
        return self._in_use().reads_itself

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        return await self._in_use().encode(prompt)

    def _in_use(self) -> Tokenizer:
        doubt = self._known.doubt
        return self._own if doubt is None else self._engines(doubt[0].lower() + doubt[1:].rstrip("."))

"""The seam to whatever turns prompts into token ids."""

from typing import Protocol

from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.prompts import Prompt, TokenIds


class Untokenizable(Exception):
    """The prompt's token ids cannot be told; the message is one clause that says why. Never a reason to refuse it."""

    def __init__(self, cause: UntokenizedCause, why: str) -> None:
        super().__init__(why)
        self.cause = cause


class Tokenizer(Protocol):
    """Prompts in, the engine's own token ids out."""

    @property
    def description(self) -> str:
        """One line for `/state`: which implementation, and from where."""

    @property
    def reads_itself(self) -> bool:
        """Its ids are this router's own reading of the model's files, which may differ from an engine's."""

    async def encode(self, prompt: Prompt) -> TokenIds:
        """Token ids as the engine will see them.

        Raises Untokenizable: the prompt goes by load then.
        """

"""Token ids only: what is left where neither a tokenizer nor an engine can be asked."""

from kvpool_api.wire import UntokenizedCause

from kvpool_router.requests.prompts import OpaquePrompt, Prompt, TokenIds, TokenPrompt
from kvpool_router.tokens.protocol import Untokenizable


class IdsTokenizer:
    """Passes token ids through; text goes by load."""

    reads_itself = False

    def __init__(self, why: str) -> None:
        self.description = f"token ids only: {why}"

    async def encode(self, prompt: Prompt) -> TokenIds:
        match prompt:
            case TokenPrompt(ids):
                return ids
            case OpaquePrompt(cause, reason):
                raise Untokenizable(cause, reason)
            case _:
                raise Untokenizable(UntokenizedCause.NO_TOKENIZER, "the router has no tokenizer")

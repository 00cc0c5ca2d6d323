"""One prompt on its way through the engine."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal

from kvpool_sim.core.blocks import Hash

FinishReason = Literal["stop", "length", "abort"]


@dataclass(slots=True, eq=False)
class EngineRequest:
    """A prompt, what it may become, and how far it is."""

    tokens: array[int]
    """Prompt, then output: 32-bit ids."""
    prompt_tokens: int
    max_tokens: int
    stop_after: int | None = None
    """Output tokens after which the model would end by itself; None: never (ignore_eos)."""
    salt: str | None = None
    adapter: str | None = None
    """The LoRA adapter that it asks for; None: the model itself."""
    seed: int = 0
    hashes: list[Hash] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens whose KV is there."""
    stored: int = 0
    """Whole blocks that others may reuse."""
    offered_from: int = 0
    offered: int = 0
    """Of its prompt's whole blocks, those from the first to before the second have been offered to main memory."""
    loading: bool = False
    """Blocks of it are on their way from main memory."""
    cached_tokens: int | None = None
    """Prompt tokens that need not be computed when it was first scheduled: on the GPU, or loaded."""
    finished: FinishReason | None = None

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def created_cache_tokens(self, block_tokens: int) -> int:
        """Prompt tokens that others may reuse because of this request, as vLLM counts them."""
        whole = self.prompt_tokens // block_tokens * block_tokens
        return whole - (self.cached_tokens or 0)

    @property
    def decoding(self) -> bool:
        """All but the newest token is computed."""
        return self.computed == len(self.tokens) - 1 and self.output_tokens > 0

"""One inference request as the router knows it."""

from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.requests.prompts import Prompt


class InferenceRequest(NamedTuple):
    """What was peeked from a body; the body itself goes on, with usage asked for where a stream's client did not."""

    path: str
    model: str | None
    """None where the client named none: the engine then takes its own."""
    stream: bool
    include_usage: bool
    """A stream reports its usage anyhow, and its client expects it: it asked, or its API always does."""
    prompts: tuple[Prompt, ...]
    namespace: Namespace
    raw: bytes
    previous_response_id: str | None = None
    """A stored response that this one continues; only its engine has it."""

    choices: int = 1
    """Answers wanted to each prompt."""
    reads_cache: bool = True
    """Whether the engine may reuse cached blocks: not where it has to tell log probabilities of the prompt."""

    @property
    def is_one_sequence(self) -> bool:
        """Its times and tokens belong to one prompt and one answer."""
        return len(self.prompts) * self.choices == 1

    @property
    def hides_usage(self) -> bool:
        """Usage is asked for on the pool's own account, and kept from the client."""
        return self.stream and not self.include_usage

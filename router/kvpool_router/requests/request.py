"""One inference request as the router knows it."""

from typing import NamedTuple

from kvpool_router.index.namespace import Namespace
from kvpool_router.requests.prompts import Prompt


class InferenceRequest(NamedTuple):
    """What was peeked from a body; the body itself goes on unchanged."""

    path: str
    model: str | None
    """None where the client named none: the engine then takes its own."""
    stream: bool
    include_usage: bool
    """The client asked for the usage chunk at a stream's end itself."""
    prompts: tuple[Prompt, ...]
    max_output_tokens: int | None
    namespace: Namespace
    raw: bytes
    previous_response_id: str | None = None
    """A stored response that this one continues; only its engine has it."""

"""What a sibling router may tell."""

from kvpool_router.index.namespace import Namespace
from kvpool_router.siblings.deeds import Sent
from kvpool_router.workers import Incarnation, WorkerId

WORKERS = [WorkerId("a", 0), WorkerId("b", 1)]
PROCESS = Incarnation("uid-1", 0)
PROMPT = bytes(4 * 40)
NAMESPACE = Namespace(None, "salt")


def sent(
    number: int,
    worker: WorkerId = WORKERS[0],
    process: Incarnation = PROCESS,
    *,
    streams: bool = True,
    prompt_tokens: int = 40,
) -> Sent:
    """A request whose first block the worker is expected to have."""
    return Sent(number, worker, process, prompt_tokens, 16, 0, streams, True, (PROMPT,), NAMESPACE)

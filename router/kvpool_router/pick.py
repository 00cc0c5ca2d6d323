"""Who may be chosen for a request, and how each of them looks to the strategy."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from kvpool_router.breaker import Breaker
from kvpool_router.index.namespace import Namespace
from kvpool_router.load import Load
from kvpool_router.requests.prompts import TokenIds
from kvpool_router.score.protocol import WorkerView
from kvpool_router.workers import Worker, WorkerId


class HeldTokens(Protocol):
    """How much of a prompt one worker has, in tokens and whole blocks."""

    @property
    def cached_tokens(self) -> int: ...
    @property
    def predicted_tokens(self) -> int: ...
    @property
    def history_tokens(self) -> int: ...


class PrefixMap(Protocol):
    """What placement needs of the cache map."""

    def match(self, tokens: TokenIds, namespace: Namespace, now: float) -> Mapping[WorkerId, HeldTokens]:
        """What each worker holds of a prompt; workers that hold nothing may be left out."""

    def sent(self, worker: WorkerId, tokens: TokenIds, namespace: Namespace, now: float) -> None:
        """The prompt goes to the worker, which will soon hold it."""


class Holding(NamedTuple):
    """The same, summed over the prompts of one body."""

    cached_tokens: int
    predicted_tokens: int
    history_tokens: int


NOTHING = Holding(0, 0, 0)


def eligible(accepting: Iterable[Worker], tried: Collection[WorkerId], breaker: Breaker, now: float) -> list[Worker]:
    """Workers that may take a request now: not yet tried for it, and believed to answer."""
    return [each for each in accepting if each.id not in tried and breaker.admits(each.id, now)]


def holdings(
    prompts: Sequence[int], matches: Sequence[Mapping[WorkerId, HeldTokens]], block_tokens: int
) -> dict[WorkerId, Holding]:
    """What each worker holds of all prompts together.

    Args:
        prompts: tokens of each prompt.
        matches: the map's answer for each prompt.
        block_tokens: at least one token is always computed, so a hit ends in the block before a prompt's last token.

    """
    found: dict[WorkerId, Holding] = {}
    for length, match in zip(prompts, matches, strict=True):
        most = (length - 1) // block_tokens * block_tokens
        for worker, held in match.items():
            before = found.get(worker, NOTHING)
            found[worker] = Holding(
                before.cached_tokens + min(held.cached_tokens, most),
                before.predicted_tokens + min(held.predicted_tokens, most),
                before.history_tokens + min(held.history_tokens, most),
            )
    return found


def views(pool: Sequence[Worker], load: Load, held: Mapping[WorkerId, Holding], now: float) -> list[WorkerView]:
    """The pool as a strategy sees it, in the same order."""
    return [
        WorkerView(each.id, load.standing(each.id, now), load.rates(each.id), *held.get(each.id, NOTHING))
        for each in pool
    ]

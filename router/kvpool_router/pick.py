"""Who may be chosen for a request, and how each of them looks to the strategy."""

from collections.abc import Collection, Mapping, Sequence
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
    @property
    def reachable_tokens(self) -> int: ...


class PrefixMap(Protocol):
    """What placement needs of the cache map."""

    def match(self, tokens: TokenIds, namespace: Namespace, now: float) -> Mapping[WorkerId, HeldTokens]:
        """What each worker holds of a prompt, never all of it; workers that hold nothing may be left out."""

    def sent(self, worker: WorkerId, tokens: TokenIds, namespace: Namespace, now: float) -> None:
        """The prompt goes to the worker, which will soon hold it: the next `match` must see that."""

    def unsent(self, worker: WorkerId, tokens: TokenIds, namespace: Namespace) -> None:
        """Takes one `sent` back: the worker will not compute the prompt."""

    def settle(self) -> None:
        """Does now what `sent` put off; to be called once the client has its first byte."""


class Holding(NamedTuple):
    """The same, summed over the prompts of one body."""

    cached_tokens: int
    predicted_tokens: int
    history_tokens: int
    reachable_tokens: int


NOTHING = Holding(0, 0, 0, 0)


def eligible(
    accepting: Sequence[Worker], given_up: Collection[WorkerId], breaker: Breaker, now: float
) -> Sequence[Worker]:
    """Workers that may take a request now: not given up for it, and believed to answer."""
    if not given_up and breaker.all_closed:
        return accepting
    return [each for each in accepting if each.id not in given_up and breaker.admits(each.id, now)]


def holdings(matches: Sequence[Mapping[WorkerId, HeldTokens]]) -> Mapping[WorkerId, HeldTokens]:
    """What each worker holds of all prompts of a body together, from the map's answer for each."""
    if len(matches) == 1:
        return matches[0]
    found: dict[WorkerId, Holding] = {}
    for match in matches:
        for worker, held in match.items():
            before = found.get(worker, NOTHING)
            found[worker] = Holding(
                before.cached_tokens + held.cached_tokens,
                before.predicted_tokens + held.predicted_tokens,
                before.history_tokens + held.history_tokens,
                before.reachable_tokens + held.reachable_tokens,
            )
    return found


def known_of(held: Mapping[WorkerId, HeldTokens], misread: Collection[WorkerId]) -> Mapping[WorkerId, HeldTokens]:
    """Without what is said of workers that read prompts otherwise than this router."""
    return {worker: each for worker, each in held.items() if worker not in misread} if misread else held


def views(pool: Sequence[Worker], load: Load, held: Mapping[WorkerId, HeldTokens], now: float) -> list[WorkerView]:
    """The pool as a strategy sees it, in the same order."""
    standing, rates = load.standing, load.rates
    found = []
    for each in pool:
        worker = each.id
        own: HeldTokens = held.get(worker, NOTHING)
        found.append(
            WorkerView(
                worker,
                standing(worker, now),
                rates(worker),
                own.cached_tokens,
                own.predicted_tokens,
                own.history_tokens,
                own.reachable_tokens,
                load.load_s(worker, own.reachable_tokens - own.predicted_tokens),
            )
        )
    return found

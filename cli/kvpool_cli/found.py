"""A pool at one moment, wherever it runs, and what all its routers say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.pool import InferencePool
from kvpool_api.wire import RouterState, WindowFacts

from kvpool_cli.engine_pods import EnginePod
from kvpool_cli.router_facts import RouterFacts


@dataclass(frozen=True, slots=True)
class FoundPool:
    """`notes` say how far this can be trusted; `url` is where the pool answers on this machine, if it does."""

    pool: InferencePool
    pods: Mapping[str, EnginePod]
    facts: RouterFacts
    url: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The pools that were asked for, and notes about others."""

    pools: tuple[FoundPool, ...]
    notes: tuple[str, ...] = ()
    across_namespaces: bool = False
    """Names alone may mean several pools."""

    def title(self, found: FoundPool) -> str:
        """How the pool is called among these."""
        meta = found.pool.metadata
        return f"{meta.namespace}/{meta.name}" if self.across_namespaces else meta.name


def together(routers: Sequence[RouterFacts]) -> RouterFacts:
    """Routers of one pool as one: requests add up, decisions are mixed by time, workers are as the first one sees them.

    Quantiles do not add up: the slowest router's stand for all, so TTFT is at most what is told.
    """
    answers = [each for each in routers if each.state is not None]
    trouble = "; ".join(each.trouble for each in routers if each.trouble) or None
    states = [each.state for each in answers if each.state is not None]
    if not states:
        return RouterFacts(trouble=trouble)
    decisions = sorted((d for each in answers for d in each.decisions), key=lambda d: d.time, reverse=True)
    return RouterFacts(_one_state(states), tuple(decisions), trouble)


def _one_state(states: Sequence[RouterState]) -> RouterState:
    window = _one_window([state.window for state in states])
    changes = {
        "ready": any(state.ready for state in states),
        "queue": sum(state.queue for state in states),
        "window": window,
        "tokenizer": "; ".join(dict.fromkeys(state.tokenizer for state in states if state.tokenizer)),
    }
    return states[0].model_copy(update=changes)


def _one_window(windows: Sequence[WindowFacts]) -> WindowFacts:
    return WindowFacts(
        requests=sum(each.requests for each in windows),
        prompt_tokens=sum(each.prompt_tokens for each in windows),
        cached_tokens=sum(each.cached_tokens for each in windows),
        predicted_tokens=sum(each.predicted_tokens for each in windows),
        errors=sum(each.errors for each in windows),
        ttft_p50_ms=_slowest([each.ttft_p50_ms for each in windows]),
        ttft_p90_ms=_slowest([each.ttft_p90_ms for each in windows]),
    )


def _slowest(waits_ms: Sequence[float | None]) -> float | None:
    return max((wait for wait in waits_ms if wait is not None), default=None)

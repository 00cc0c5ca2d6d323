"""Reads a router's admin endpoint."""

from dataclasses import dataclass

import aiohttp
from kvpool_api.wire import Decision, Decisions, RouterState
from pydantic import ValidationError

LAST_DECISIONS = 100
UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """What a router says; nothing where it does not answer, with the reason."""

    state: RouterState | None = None
    decisions: tuple[Decision, ...] = ()
    trouble: str | None = None
    refused: bool = False
    """The router wants another token."""


async def read_router(
    session: aiohttp.ClientSession, admin_url: str, token: str, limit: int = LAST_DECISIONS
) -> RouterFacts:
    """The router's state and its last decisions, newest first. Never raises for what the router does."""
    headers = {"X-Kvpool-Token": token}
    try:
        async with session.get(f"{admin_url}/state", headers=headers) as answer:
            answer.raise_for_status()
            state = RouterState.model_validate_json(await answer.read())
        async with session.get(f"{admin_url}/decisions?limit={limit}", headers=headers) as answer:
            answer.raise_for_status()
            decisions = Decisions.model_validate_json(await answer.read()).decisions
    except aiohttp.ClientResponseError as error:
        why = f"the router's admin endpoint {admin_url} answers {error.status} {error.message}"
        return RouterFacts(trouble=why, refused=error.status == UNAUTHORIZED)
    except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
        return RouterFacts(trouble=f"the router's admin endpoint {admin_url} does not answer: {_words(error)}")
    return RouterFacts(state, tuple(decisions))


def _words(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

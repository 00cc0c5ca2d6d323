"""What the operator asks a router: its state."""

import os
from typing import Protocol

import aiohttp
from kvpool_api.wire import RouterState
from pydantic import ValidationError

UNAUTHORIZED = 401


class RouterSilent(Exception):
    """No usable answer; says why."""


class TokenRefused(RouterSilent):
    """The router wants another token."""


class RouterAdmin(Protocol):
    """The admin ports of routers."""

    async def state(self, host: str, port: int, token: str) -> RouterState:
        """Raises RouterSilent."""
        ...


class HttpRouterAdmin:
    """Over HTTP, with the pool's token."""

    def __init__(self, session: aiohttp.ClientSession, timeout_s: float) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def state(self, host: str, port: int, token: str) -> RouterState:
        headers = {"X-Kvpool-Token": token}
        try:
            async with self._session.get(
                f"http://{host}:{port}/state", headers=headers, timeout=self._timeout
            ) as answer:
                body = await answer.read()
        except TimeoutError as error:
            raise RouterSilent(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RouterSilent(f"no connection to {host}:{port}: {_told(error)}") from error
        if answer.status == UNAUTHORIZED:
            raise TokenRefused("it answered 401")
        if answer.status != 200:
            raise RouterSilent(f"it answered {answer.status}")
        try:
            return RouterState.model_validate_json(body)
        except ValidationError as error:
            raise RouterSilent(f"its answer is not understood: {error.error_count()} errors") from error


def _told(error: Exception) -> str:
    """The system's own words: aiohttp puts its own around them, and asyncio in place of them."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else f"{type(error).__name__}: {error}"

"""One call to the API server: sent with our credentials, tried again where that may help, its failure named."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import ClientError, ClientResponse, ClientTimeout
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException
from pydantic import JsonValue

from kvpool_operator.cluster.kube.errors import Answer, NotNow, error_of
from kvpool_operator.cluster.kube.pace import Pace
from kvpool_operator.cluster.seam import Unavailable

Renew = Callable[[], Awaitable[None]]
"""Reads the credentials anew. Raises ConfigException or OSError where they cannot be had."""

UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `path` with its query."""

    method: str
    path: str
    body: JsonValue = None
    content_type: str = "application/json"


class Calls:
    """Calls through an ApiClient, whose TLS, proxy and credentials they use."""

    def __init__(self, api: ApiClient, renew: Renew, pace: Pace) -> None:
        self._api = api
        self._renew = renew
        self._pace = pace

    async def answer(self, request: Request) -> bytes:
        """The body of a success, in several tries: every call of the seam may be repeated.

        An apply says what should be, a delete names a uid, and a create that is repeated finds its own work and says
        AlreadyExists. Raises ClusterError.
        """
        failures = 0
        while True:
            try:
                return await self.answer_at_once(request, within_s=self._pace.call_s)
            except NotNow as busy:
                wait_s = self._pace.wait_s(failures, busy.retry_after_s)
                if wait_s is None:
                    raise
            failures += 1
            await asyncio.sleep(wait_s)

    async def answer_at_once(self, request: Request, *, within_s: float) -> bytes:
        """The same in one try."""
        timeout = ClientTimeout(total=within_s, sock_connect=self._pace.connect_s)
        with _named_failures(request):
            response = await self._sent(request, timeout)
            return await response.read()

    async def lines(self, request: Request, *, silence_s: float) -> AsyncGenerator[bytes, None]:
        """Lines of an answer that does not end, in one try; close it with `aclosing`. Raises ClusterError."""
        timeout = ClientTimeout(total=None, sock_connect=self._pace.connect_s, sock_read=silence_s)
        with _named_failures(request):
            response = await self._sent(request, timeout)
            with contextlib.closing(response):
                async for line in response.content:
                    yield line

    async def _sent(self, request: Request, timeout: ClientTimeout) -> ClientResponse:
        """A success, not read yet. Credentials that are refused are read anew, once."""
        response = await self._asked(request, timeout)
        if response.status == UNAUTHORIZED:
            response.release()
            await self._renew()
            response = await self._asked(request, timeout)
        if response.ok:
            return response
        answer = Answer(response.status, await response.read(), response.headers.get("Retry-After"))
        raise error_of(answer)

    async def _asked(self, request: Request, timeout: ClientTimeout) -> ClientResponse:
        headers = {**self._api.default_headers, "Content-Type": request.content_type}
        await self._api.update_params_for_auth(
            headers, None, ["BearerToken"], resource_path=request.path, method=request.method, body=request.body
        )
        answer = await self._api.call_api(
            request.method,
            self._api.configuration.host + request.path,
            header_params=headers,
            body=request.body,
            _request_timeout=timeout,
        )
        response: ClientResponse = answer.response
        return response


@contextlib.contextmanager
def _named_failures(request: Request) -> Iterator[None]:
    """A connection that fails may succeed in a moment; a slow one has cost enough time."""
    what = f"{request.method} {request.path.partition('?')[0]}"
    try:
        yield
    except TimeoutError as slow:
        raise Unavailable(f"{what}: no answer of the API server in time") from slow
    except (ConfigException, FileNotFoundError) as missing:
        raise Unavailable(f"{what}: the credentials cannot be read: {missing}") from missing
    except (ClientError, OSError) as failed:
        raise NotNow(f"{what}: the API server cannot be reached: {str(failed) or type(failed).__name__}") from failed

"""The two calls of the Kubernetes API that a router makes: list one pool's Pods, and watch them from there."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

GONE = 410
BAD_CREDENTIALS = 401
NO_RIGHTS = 403
_MOUNT = "mount the service account's token there (automountServiceAccountToken)"
_RIGHTS = "the ServiceAccount needs list and watch of pods: the operator's Role <pool>-router gives them"
LONGEST_EVENT = 8 << 20
"""Bytes. etcd takes objects of up to 1.5 MB; what is longer is no event."""


class Unusable(Exception):
    """The API server gave nothing that can be used; why, as a clause. `retry_after_s` is its own wish, else 0."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Expired(Exception):
    """The version is too old to be watched from: the Pods must be listed anew."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where the API server is, and the folder with the `token` and `ca.crt` of the Pod's service account.

    The kubelet renews both files while the Pod runs, so they are read for each use.
    """

    url: str
    credentials: Path

    def authorization(self) -> str:
        """Raises Unusable."""
        try:
            token = (self.credentials / "token").read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"the service account's token cannot be read ({error}); {_MOUNT}") from error
        if not (token.isascii() and token.isprintable() and token):
            raise Unusable(f"{self.credentials / 'token'} holds no token; {_MOUNT}")
        return f"Bearer {token}"

    def trust(self) -> ssl.SSLContext:
        """Raises OSError, which ssl's own errors are."""
        return ssl.create_default_context(cafile=self.credentials / "ca.crt")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. A watch is asked to end after `watch_s`; one that then goes on being silent for `grace_s` is dead.

    So a connection that dies without a word is found within their sum, whether bookmarks come or not.
    """

    list_s: float = 30.0
    watch_s: float = 30.0
    grace_s: float = 10.0


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str


class PodList(msgspec.Struct):
    """Pods at one version."""

    metadata: _ListMeta
    items: list[Any]


class Named(msgspec.Struct, rename="camel"):
    """What following a Pod needs of it; a bookmark has a version alone."""

    resource_version: str
    name: str = ""


class Versioned(msgspec.Struct):
    metadata: Named


class WatchEvent(msgspec.Struct):
    """`type` is ADDED, MODIFIED, DELETED, BOOKMARK, or one that a later release adds."""

    type: str
    object: Any


class _Status(msgspec.Struct):
    """The API server's own words about a failure."""

    message: str = ""
    code: int = 0


class PodsApi:
    """The Pods of `namespace` that `selector` (of labels, as the API server reads it) takes."""

    def __init__(self, server: ApiServer, namespace: str, selector: str, patience: Patience | None = None) -> None:
        self.server = server
        self._url = f"{server.url}/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._patience = patience or Patience()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Connection"]:
        """A connection of its own, which trusts what `ca.crt` says now. Raises Unusable."""
        try:
            connector = aiohttp.TCPConnector(ssl=self.server.trust())
        except OSError as error:
            raise Unusable(f"its authority's certificate cannot be read ({error}); {_MOUNT}") from error
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Connection(session, self.server, self._url, {"labelSelector": self._selector}, self._patience)


class Connection:
    """Lists and watches. All raise Unusable; a watch also Expired."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: ApiServer,
        url: str,
        query: Mapping[str, str],
        patience: Patience,
    ) -> None:
        self._session = session
        self._server = server
        self._url = url
        self._query = query
        self._patience = patience

    async def list(self) -> PodList:
        """The Pods as they are now: without a version to be content with, the API server asks etcd."""
        async with self._answer({}, self._patience.list_s) as answer:
            content = await answer.read()
        try:
            return msgspec.json.decode(content, type=PodList)
        except ValueError as error:
            raise Unusable(f"it answered what is no list of Pods ({error})") from error

    @asynccontextmanager
    async def watch(self, version: str) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """What happens after `version`, until the API server ends the watch. Entering means that it was accepted."""
        watch_s = self._patience.watch_s
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(watch_s))),
        }
        async with self._answer(query, watch_s + self._patience.grace_s) as answer:
            yield _events(answer.content)

    @asynccontextmanager
    async def _answer(self, query: Mapping[str, str], timeout_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.get(
                self._url,
                params={**self._query, **query},
                headers={"Authorization": self._server.authorization(), "Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 10)),
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise _refusal(answer, await answer.read())
                yield answer
        except TimeoutError as error:
            raise Unusable(f"it did not answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unusable(f"the connection failed: {str(error) or type(error).__name__}") from error


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[WatchEvent]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _event(line)
        if len(rest) > LONGEST_EVENT:
            raise Unusable(f"it sent an event of more than {LONGEST_EVENT} bytes")
    if rest:
        raise Unusable("the watch was cut within an event")


def _event(line: bytes) -> WatchEvent:
    try:
        event = msgspec.json.decode(line, type=WatchEvent)
        if event.type != "ERROR":
            return event
        status = msgspec.convert(event.object, _Status)
    except ValueError as error:
        raise Unusable(f"it sent what is no watch event ({error})") from error
    if status.code == GONE:
        raise Expired(status.message)
    raise Unusable(f"it ended the watch with {status.code}: {status.message}")


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> Expired | Unusable:
    try:
        words = msgspec.json.decode(body, type=_Status).message
    except ValueError:
        words = body[:200].decode(errors="replace")
    if answer.status == GONE:
        return Expired(words)
    mend = {
        NO_RIGHTS: f"; {_RIGHTS}",
        BAD_CREDENTIALS: "; it does not accept the service account's token",
    }.get(answer.status, "")
    return Unusable(f"it answered {answer.status}: {words}{mend}", _seconds(answer.headers.get("Retry-After", "")))


def _seconds(told: str) -> float:
    return float(told) if told.isdecimal() else 0.0

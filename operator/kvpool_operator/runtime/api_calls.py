"""What is heard of HTTP calls to the API server: counts, watches that open, lists that tell of missed changes."""

from collections.abc import Callable, Collection
from types import SimpleNamespace

import aiohttp
from aiohttp import TraceRequestEndParams, TraceRequestExceptionParams
from yarl import URL

Count = Callable[[str, str], None]
"""Verb and status code of a call; the code is `none` where no answer came."""
NO_ANSWER = "none"
_OK = 200


def counted(count: Count) -> aiohttp.TraceConfig:
    """Counts every call of a session."""

    async def ended(_: aiohttp.ClientSession, __: SimpleNamespace, call: TraceRequestEndParams) -> None:
        count(verb(call.method, call.url), str(call.response.status))

    async def failed(_: aiohttp.ClientSession, __: SimpleNamespace, call: TraceRequestExceptionParams) -> None:
        count(verb(call.method, call.url), NO_ANSWER)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    trace.on_request_exception.append(failed)
    return trace


def followed(
    paths: Collection[str], *, opened: Callable[[str], None], listed: Callable[[], None]
) -> aiohttp.TraceConfig:
    """Tells of each watch of these paths that opens, and of each list: whoever lists has lost the thread of changes."""

    async def ended(_: aiohttp.ClientSession, __: SimpleNamespace, call: TraceRequestEndParams) -> None:
        if call.url.path not in paths or call.response.status != _OK:
            return
        if is_watch(call.url):
            opened(call.url.path)
        else:
            listed()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    return trace


def verb(method: str, url: URL) -> str:
    """The HTTP method in small letters, or `watch`."""
    return "watch" if is_watch(url) else method.lower()


def is_watch(url: URL) -> bool:
    return url.query.get("watch", "") in ("true", "1")

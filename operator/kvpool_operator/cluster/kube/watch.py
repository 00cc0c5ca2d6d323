"""A watch that lasts: it goes on where a stream ended, by bookmarks also where nothing happens."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from kvpool_api.manifest import as_map, as_text, at

from kvpool_operator.cluster.kube.calls import Calls, Request
from kvpool_operator.cluster.kube.errors import Answer, NotNow, error_of
from kvpool_operator.cluster.kube.pace import Pace
from kvpool_operator.cluster.seam import Change, Unavailable

RequestFrom = Callable[[str, int], Request]
"""(version, seconds) -> the request that watches from the version, ended by the server after so many seconds."""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a watch: a change, or only how far the server has come."""

    version: str
    change: Change | None


async def lasting(calls: Calls, request: RequestFrom, version: str, pace: Pace) -> AsyncGenerator[Change, None]:
    """Changes after `version`, for ever.

    A stream that ends or is cut is taken up after its last line. Raises Expired, and Unavailable where several streams
    in a row could not be had: what is missed meanwhile is then a matter of a new list.
    """
    failures = 0
    while True:
        before = version
        try:
            async with aclosing(_stream(calls, request, version, pace)) as told:
                async for each in told:
                    version, failures = each.version, 0
                    if each.change is not None:
                        yield each.change
        except Unavailable as trouble:
            wait_s = pace.wait_s(failures, trouble.retry_after_s)
            if wait_s is None:
                raise
        else:
            if version != before:
                continue
            wait_s = pace.rest_s(failures)
        failures += 1
        await asyncio.sleep(wait_s)


async def _stream(calls: Calls, request: RequestFrom, version: str, pace: Pace) -> AsyncGenerator[Told, None]:
    ends_after_s = pace.watch_ends_after_s()
    wanted = request(version, ends_after_s)
    async with aclosing(calls.lines(wanted, silence_s=ends_after_s + pace.watch_slack_s)) as lines:
        async for line in lines:
            yield told_by(line)


def told_by(line: bytes) -> Told:
    """Raises Expired and other ClusterErrors, which come as lines too; NotNow for a line that was cut."""
    try:
        event = as_map(json.loads(line))
    except ValueError:
        raise NotNow("a watch was cut amid a line") from None
    found = as_map(event.get("object"))
    kind, version = event.get("type"), as_text(at(found, ("metadata", "resourceVersion")))
    match kind:
        case "ADDED" | "MODIFIED" | "DELETED":
            return Told(version, Change(kind, found))
        case "BOOKMARK":
            return Told(version, None)
    code = found.get("code")
    raise error_of(Answer(code if isinstance(code, int) else 500, json.dumps(found).encode()))

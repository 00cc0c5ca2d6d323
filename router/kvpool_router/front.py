"""The http port: health, readiness and metrics here, everything else to the door."""

import json
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kvpool_router.asgi import ASGIApp, Receive, Scope, Send, respond

_JSON = ((b"content-type", b"application/json"),)
_TEXT = ((b"content-type", CONTENT_TYPE_LATEST.encode()),)


def build_front(ready: Callable[[], tuple[bool, str]], registry: CollectorRegistry, door: ASGIApp) -> ASGIApp:
    """`/health`: this process runs, whatever becomes of its engines. `/ready`: 200 or 503 for whether it may be sent
    requests, with one sentence on what they meet. Neither needs a token, and neither asks an engine anything.

    Once 200, `/ready` stays so while the pool has no engine: clients get the router's 503 with its reason, which tells
    them more than a Service that nobody listens behind (`readiness`).
    """

    async def health(send: Send) -> None:
        await respond(send, 200, _JSON, b'{"status":"ok"}')

    async def readiness(send: Send) -> None:
        is_ready, reason = ready()
        await respond(send, 200 if is_ready else 503, _JSON, json.dumps({"ready": is_ready, "reason": reason}).encode())

    async def metrics(send: Send) -> None:
        await respond(send, 200, _TEXT, generate_latest(registry))

    own = {"/health": health, "/ready": readiness, "/metrics": metrics}

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        answer = own.get(scope["path"])
        if answer is None:
            await door(scope, receive, send)
        else:
            await answer(send)

    return front

"""The HTTP door: one raw ASGI callable for the paths that reach engines.

    resolve path ─> read body ─> peek ─> tokens ─> cache map ─> strategy ─> engine ─> first byte ─> client
                                                       └─── another worker, until the first byte ───┘

Raw, because a framework's middleware costs more than everything done here. Health, metrics and admin are around it.
"""

import os
import re

from kvpool_router.asgi import ASGIApp, ClientGone, Headers, Receive, Scope, Send, respond
from kvpool_router.deps import DoorDeps
from kvpool_router.forwarding import Forwarding
from kvpool_router.generation import Generation
from kvpool_router.owners import ResponseOwners
from kvpool_router.requests.paths import Placement, dialect_of, resolve
from kvpool_router.requests.refusal import Refusal

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")

__all__ = ["DoorDeps", "build_door"]


def build_door(deps: DoorDeps) -> ASGIApp:
    """The ASGI callable for HTTP requests on inference paths; every other path gets its 403 or 404 here too."""
    owners = ResponseOwners()
    return _Door(deps, Generation(deps, owners), Forwarding(deps, owners))


class _Door:
    def __init__(self, deps: DoorDeps, generation: Generation, forwarding: Forwarding) -> None:
        self._observer = deps.observer
        self._generation = generation
        self._forwarding = forwarding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        request_id = _request_id(scope["headers"])
        try:
            endpoint = resolve(scope["method"], path)
            if endpoint.placement is Placement.BY_COST:
                await self._generation.serve(endpoint, request_id, scope, receive, send)
            else:
                await self._forwarding.serve(endpoint, request_id, scope, receive, send)
        except Refusal as refusal:
            self._observer.refused(path, refusal.status)
            headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id), *refusal.headers()]
            await respond(send, refusal.status, headers, refusal.body(dialect_of(path)))
        except ClientGone:
            return


def _request_id(headers: Headers) -> bytes:
    """The client's own id where it is fit to be a header again, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return os.urandom(16).hex().encode()

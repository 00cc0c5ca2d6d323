"""Requests that need no placement: any worker answers alike, or only one can."""

from kvpool_router.asgi import CancelledWhenGone, Receive, Scope, Send, respond
from kvpool_router.deps import DoorDeps
from kvpool_router.owners import ResponseOwners
from kvpool_router.pick import eligible
from kvpool_router.proxy import Answer, EngineFailed, Outgoing, begin, outgoing, rank_header, target_of
from kvpool_router.requests.body import read_body
from kvpool_router.requests.models import model_card
from kvpool_router.requests.paths import MODELS, Endpoint, Placement, model_name, stored_id
from kvpool_router.requests.refusal import unknown_model
from kvpool_router.sse import EventStream
from kvpool_router.unavailable import Tries, no_worker, owner_gone
from kvpool_router.workers import Worker


class Forwarding:
    """Models, token counts and stored responses."""

    def __init__(self, deps: DoorDeps, owners: ResponseOwners) -> None:
        self._deps = deps
        self._owners = owners
        self._turn = 0

    async def serve(self, endpoint: Endpoint, request_id: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises Refusal: nobody can answer it.
        Raises ClientGone: nobody waits for it.
        """
        body = await read_body(receive, scope["headers"], self._deps.max_body_bytes)
        target = MODELS if endpoint.placement is Placement.LOOKED_UP else target_of(scope)
        request = outgoing(scope["method"], target, scope["headers"], request_id.decode(), body if body else None)
        async with CancelledWhenGone(receive):
            answer = await self._ask(endpoint, scope["path"], request)
            try:
                if endpoint.placement is Placement.LOOKED_UP and answer.status < 400:
                    await self._deliver_card(model_name(scope["path"]), answer, request_id, send)
                else:
                    await self._deliver(endpoint, answer, request_id, send)
            finally:
                answer.response.close()

    async def _ask(self, endpoint: Endpoint, path: str, request: Outgoing) -> Answer:
        deps = self._deps
        tries = Tries()
        while not tries.exhausted:
            worker = self._owner(path) if endpoint.placement is Placement.STICKY else self._next(tries)
            try:
                return await deps.engines.ask(worker.url, request, rank_header(worker, deps.roster.workers))
            except EngineFailed as failed:
                tries.add(worker.id, failed)
                deps.observer.retried(worker.id, str(failed))
                if endpoint.placement is Placement.STICKY:
                    raise owner_gone(worker.id, str(failed)) from None
        raise no_worker(tries.failed)

    def _next(self, tries: Tries) -> Worker:
        deps = self._deps
        pool = eligible(deps.roster.accepting(), tries.given_up, deps.breaker, deps.clock())
        pool = deps.engines.liveness.answering(pool)
        if not pool:
            raise no_worker(tries.failed)
        self._turn += 1
        return pool[self._turn % len(pool)]

    def _owner(self, path: str) -> Worker:
        """Even while it drains: what it stored is nowhere else."""
        owner = self._owners.owner(stored_id(path))
        for worker in self._deps.roster.workers:
            if worker.id == owner and worker.ready:
                return worker
        raise owner_gone(owner, "it has left the pool")

    async def _deliver(self, endpoint: Endpoint, answer: Answer, request_id: bytes, send: Send) -> None:
        if not answer.streams:
            await respond(send, answer.status, answer.headers(request_id), answer.first)
            return
        events = EventStream(endpoint.dialect, drops_usage=False)
        await begin(answer, events, request_id, send)
        await self._deps.engines.relay(answer, events, endpoint.dialect, send)

    async def _deliver_card(self, name: str, answer: Answer, request_id: bytes, send: Send) -> None:
        card = model_card(answer.first, name)
        if card is None:
            raise unknown_model(name, self._deps.names)
        await respond(send, 200, [(b"content-type", b"application/json"), (b"x-request-id", request_id)], card)

"""One prompt from its body to the last byte of its answer."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from kvpool_router.asgi import CancelledWhenGone, ClientGone, Receive, Scope, Send, respond
from kvpool_router.audit.auditor import Case
from kvpool_router.decisions import CLIENT_GONE, IN_FLIGHT, OK, Record
from kvpool_router.deps import DoorDeps
from kvpool_router.load import Ticket
from kvpool_router.owners import ResponseOwners
from kvpool_router.pick import eligible, holdings, known_of, views
from kvpool_router.proxy import Answer, EngineFailed, Outgoing, begin, outgoing, rank_header, target_of
from kvpool_router.requests.body import read_body
from kvpool_router.requests.paths import RESPONSES, Endpoint
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import TokenIds, TokenPrompt, token_count
from kvpool_router.requests.refusal import Refusal, unknown_model
from kvpool_router.requests.request import InferenceRequest
from kvpool_router.requests.usage import Usage, asking_for_usage, usage_of
from kvpool_router.score.protocol import RequestView
from kvpool_router.siblings.deeds import Sent
from kvpool_router.sse import EventStream
from kvpool_router.tokens.protocol import Untokenizable
from kvpool_router.unavailable import Tries, no_worker, owner_gone, untold_model
from kvpool_router.workers import Worker

_GUESSED_BYTES_PER_TOKEN = 4
_MOST_GUESSED_TOKENS = 16_384


@dataclass(slots=True)
class _Job:
    """One prompt on its way."""

    endpoint: Endpoint
    request: InferenceRequest
    request_id: bytes
    outgoing: Outgoing
    record: Record
    tokens: list[TokenIds] = field(default_factory=list)
    """One a prompt; empty where they cannot be told."""
    prompt_tokens: int = 0
    """Over all prompts; a guess where they cannot be told."""
    placed_in_s: float = 0.0
    tries: Tries = field(default_factory=Tries)
    engines: Collection[str] | None = None
    """Addresses of those that serve the adapter it names; None where it names the pool's own model."""
    case: Case | None = None
    """The audit of the worker that has it now."""
    number: int = 0
    """By which siblings know the request at the worker that has it now."""


class Generation:
    """Placement and delivery of everything that an engine has to compute."""

    def __init__(self, deps: DoorDeps, owners: ResponseOwners) -> None:
        self._deps = deps
        self._owners = owners

    async def serve(self, endpoint: Endpoint, request_id: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Raises Refusal: the request is wrong, or nobody can answer it; nothing has been sent yet.
        Raises ClientGone: nobody waits for it any more; its engine has been told.
        """
        deps = self._deps
        arrived = deps.clock()
        body = await read_body(receive, scope["headers"], deps.max_body_bytes)
        request = peek(endpoint.path, body)
        engines = await self._engines_of(request.model)
        if engines is not None:
            request = request._replace(namespace=request.namespace._replace(lora_name=request.model))
        if request.hides_usage:
            body = asking_for_usage(body)
        out = outgoing("POST", target_of(scope), scope["headers"], request_id.decode(), body)
        record = Record(request_id.decode(), arrived, deps.wall_clock(), endpoint.path, None)
        job = _Job(endpoint, request, request_id, out, record, engines=engines)
        deps.decisions.begin(record)
        try:
            async with CancelledWhenGone(receive):
                await self._serve(job, send)
        except ClientGone:
            record.outcome = CLIENT_GONE
            raise
        except Refusal as refusal:
            record.outcome = refusal.kind
            raise
        finally:
            if record.outcome == IN_FLIGHT:
                record.outcome = "broken off"
            deps.decisions.finish(record, deps.clock())
            deps.observer.finished(record)

    async def _engines_of(self, model: str | None) -> Collection[str] | None:
        if model is None or model in self._deps.names:
            return None
        engines = await self._deps.adapters.engines(model)
        if not engines:
            if not self._deps.adapters.all_told():
                raise untold_model(model)
            raise unknown_model(model, (*self._deps.names, *self._deps.adapters.names()))
        return engines

    async def _serve(self, job: _Job, send: Send) -> None:
        await self._tokenize(job)
        if not self._deps.entrance.is_open:
            await self._deps.entrance.passed()
        while True:
            worker, ticket = self._place(job)
            answer: Answer | None = None
            try:
                answer = await self._ask(job, worker)
                if answer is not None:
                    await self._deliver(job, ticket, answer, send)
                    return
            finally:
                usage, now = job.record.usage, self._deps.clock()
                self._deps.load.done(ticket, now, output_tokens=None if usage is None else usage.output_tokens)
                self._end(job, worker, computed=answer is not None and answer.status < 400)
                if job.case is not None:
                    self._deps.audit.answered(job.case, usage, now)
                if answer is not None:
                    answer.response.close()

    def _end(self, job: _Job, worker: Worker, *, computed: bool) -> None:
        """What the worker refused, failed at or was left with is expected there no longer."""
        self._deps.outbox.done(job.number, computed=computed)
        for ids in () if computed else job.tokens:
            self._deps.cache.unsent(worker.id, ids, job.request.namespace)

    async def _tokenize(self, job: _Job) -> None:
        try:
            for prompt in job.request.prompts:
                ids = prompt.ids if isinstance(prompt, TokenPrompt) else await self._deps.tokenizer.encode(prompt)
                job.tokens.append(ids)
        except Untokenizable as why:
            job.tokens.clear()
            job.prompt_tokens = min(len(job.request.raw) // _GUESSED_BYTES_PER_TOKEN, _MOST_GUESSED_TOKENS)
            self._deps.observer.opaque(job.endpoint.path, why.cause)
            job.record.untokenized = why.cause
            job.record.reason = f"placed by load: {why}"
            return
        job.prompt_tokens = job.record.prompt_tokens = sum(map(token_count, job.tokens))

    def _place(self, job: _Job) -> tuple[Worker, Ticket]:
        """Chooses and books in one step, without a pause in which the books could change."""
        deps = self._deps
        now = deps.clock()
        pool = self._pool(job, now)
        namespace = job.request.namespace
        matches = [deps.cache.match(ids, namespace, now) for ids in job.tokens if job.request.reads_cache]
        held = known_of(holdings(matches), deps.misread())
        seen = views(pool, deps.load, held, now)
        choice = deps.strategy(RequestView(job.prompt_tokens), seen, now)
        worker, view = pool[choice.position], seen[choice.position]
        for ids in job.tokens:
            deps.cache.sent(worker.id, ids, namespace, now)
        ticket = deps.load.sent(
            worker.id,
            job.prompt_tokens,
            view.reachable_tokens,
            streams=job.request.stream,
            now=now,
            certain=bool(job.tokens) and job.request.is_one_sequence,
            loaded_tokens=view.reachable_tokens - view.predicted_tokens,
        )
        self._tell(job, worker, ticket)
        deps.breaker.sending(worker.id, now)
        job.case = self._audited(job, worker, view.reachable_tokens, now)
        record = job.record
        record.worker, record.choice, record.pool = worker.id, choice, seen
        record.reason = record.reason if not job.tokens else choice.reason
        record.attempts += 1
        record.predicted_cached_tokens = view.reachable_tokens if job.tokens else None
        deps.decisions.placed(record)
        return worker, ticket

    def _tell(self, job: _Job, worker: Worker, ticket: Ticket) -> None:
        outbox = self._deps.outbox
        job.number = outbox.next_number()
        outbox.sent(
            Sent(
                job.number,
                worker.id,
                worker.incarnation,
                ticket.prompt_tokens,
                ticket.held_tokens,
                ticket.loaded_tokens,
                ticket.streams,
                ticket.certain and not ticket.loaded_tokens,
                tuple(job.tokens),
                job.request.namespace,
            )
        )

    def _audited(self, job: _Job, worker: Worker, predicted_tokens: int, now: float) -> Case | None:
        """What engines report of several prompts or answers together cannot be held against one prompt."""
        if not (job.tokens and job.request.is_one_sequence and job.request.reads_cache):
            return None
        (ids,) = job.tokens
        return self._deps.audit.placed(
            worker.id, ids, job.request.namespace, predicted_tokens=predicted_tokens, now=now
        )

    def _pool(self, job: _Job, now: float) -> Sequence[Worker]:
        deps = self._deps
        tried = job.tries.failed
        pool = deps.engines.liveness.answering(eligible(deps.roster.accepting(), job.tries.given_up, deps.breaker, now))
        if job.engines is not None:
            pool = [each for each in pool if each.url in job.engines]
        if job.request.previous_response_id is not None:
            owner = self._owners.owner(job.request.previous_response_id)
            pool = [each for each in pool if each.id == owner]
            if not pool:
                raise owner_gone(owner, tried.get(owner, "it takes no requests now"))
        if not pool or job.tries.exhausted:
            raise no_worker(tried)
        return pool

    async def _ask(self, job: _Job, worker: Worker) -> Answer | None:
        """The worker's answer, or None where another worker may be asked."""
        deps = self._deps
        job.placed_in_s = deps.clock() - job.record.arrived_at
        try:
            answer = await deps.engines.ask(worker.url, job.outgoing, rank_header(worker, deps.roster.workers))
        except EngineFailed as failed:
            self._book(job)
            job.tries.add(worker.id, failed)
            if not failed.silent:
                deps.breaker.failed(worker.id, deps.clock())
            deps.observer.retried(worker.id, str(failed))
            return None
        deps.breaker.succeeded(worker.id)
        return answer

    def _book(self, job: _Job) -> None:
        """What can wait until the client has its first byte."""
        self._deps.observer.placed(job.record, job.placed_in_s)
        self._deps.cache.settle()

    async def _deliver(self, job: _Job, ticket: Ticket, answer: Answer, send: Send) -> None:
        record = job.record
        if job.endpoint.path == RESPONSES:
            self._owners.learn(answer.first, ticket.worker)
        if answer.streams:
            await self._stream(job, ticket, answer, send)
            return
        if answer.status < 400:
            record.usage = self._told(job, usage_of(answer.first))
        record.outcome = OK if answer.status < 400 else str(answer.status)
        await respond(send, answer.status, answer.headers(job.request_id), answer.first)
        self._book(job)

    async def _stream(self, job: _Job, ticket: Ticket, answer: Answer, send: Send) -> None:
        deps, record, dialect = self._deps, job.record, job.endpoint.dialect
        now = deps.clock()
        events = EventStream(dialect, drops_usage=job.request.hides_usage)
        with deps.engines.liveness.streaming(answer.engine, answer.response):
            await begin(answer, events, job.request_id, send)
            await asyncio.sleep(0)  # the loop writes to sockets between two steps: first the bytes, then the books
            self._book(job)
            deps.load.first_token(ticket, now)
            deps.outbox.first_token(job.number)
            if job.case is not None:
                deps.audit.first_token(job.case, now)
            record.ttft_s = now - record.arrived_at
            broken = await deps.engines.relay(answer, events, dialect, send)
        record.usage = self._told(job, events.usage())
        record.outcome = OK if broken is None else "engine broke off"

    @staticmethod
    def _told(job: _Job, usage: Usage | None) -> Usage | None:
        """Of several prompts vLLM counts the tokens of all, and the cached ones of a single one: that tells nothing."""
        if usage is None or len(job.request.prompts) <= 1:
            return usage
        return usage._replace(cached_tokens=None)

"""vLLM's HTTP API over simulated engines, as one ASGI application."""

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec

from kvpool_sim.answers.anthropic import MessagesShape
from kvpool_sim.answers.openai import ChatShape, CompletionShape
from kvpool_sim.answers.responses import ResponsesShape
from kvpool_sim.answers.shape import Choice, Heading, Shape, Usage
from kvpool_sim.asks import Api, Ask, Reader, check
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.driver import Driver, News, Running
from kvpool_sim.faults import inflict
from kvpool_sim.http import TEXT, Receive, Scope, Send, begin_stream, read_body, respond, until_gone
from kvpool_sim.metrics import Metrics, quantile
from kvpool_sim.refusal import Refusal, malformed, unknown_model
from kvpool_sim.settings import Settings, for_rank
from kvpool_sim.vocabulary import Vocabulary

_APIS: Mapping[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
_ID_PREFIXES: Mapping[Api, str] = {
    "chat": "chatcmpl-",
    "completion": "cmpl-",
    "responses": "resp_",
    "messages": "chatcmpl-",
}
_SHAPES: Mapping[Api, Callable[[Heading, Ask], Shape]] = {
    "chat": lambda heading, ask: ChatShape(heading, ask.usage),
    "completion": lambda heading, ask: CompletionShape(heading, ask.usage),
    "responses": lambda heading, ask: ResponsesShape(heading),
    "messages": lambda heading, ask: MessagesShape(heading),
}
_RENDER = "/render"
_LONGEST_OWN_ANSWER = 400
_SHORTEST_OWN_ANSWER = 100


class EngineServer:
    """One engine process: its DP ranks and the API in front of them."""

    def __init__(self, settings: Settings, drivers: Sequence[Driver], vocabulary: Vocabulary) -> None:
        self._settings = settings
        self._drivers = drivers
        self._vocabulary = vocabulary
        self._reader = Reader(vocabulary, settings.limits, force_usage=settings.force_usage)
        self._metrics = Metrics(settings, drivers)
        self._numbers = count(1)
        self._gets: Mapping[str, Callable[[], bytes]] = {
            "/v1/models": self._models,
            "/kv_event_sources": self._event_sources,
            "/load": lambda: _json({"server_load": self.in_flight}),
            "/version": lambda: _json({"version": "0.32.0"}),
            "/sim/stats": self._stats,
        }

    @property
    def in_flight(self) -> int:
        return sum(driver.in_flight for driver in self._drivers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            if scope["method"] == "GET":
                await self._get(path, send)
            else:
                await self._post(path, scope, receive, send)
        except Refusal as refusal:
            await respond(send, refusal.status, refusal.body(anthropic=path.startswith("/v1/messages")))

    async def _get(self, path: str, send: Send) -> None:
        if path == "/health":
            await respond(send, 200, b"")
        elif path == "/metrics":
            await respond(send, 200, self._metrics.text(), TEXT)
        elif path in self._gets:
            await respond(send, 200, self._gets[path]())
        else:
            await respond(send, 404, _json({"detail": "Not Found"}))

    async def _post(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path in _APIS:
            await self._infer(_APIS[path], _parsed(await read_body(receive)), scope, receive, send)
        elif path == "/reset_prefix_cache":
            await respond(send, 200 if self._reset_caches() else 409, b"")
        else:
            body = _parsed(await read_body(receive) or b"{}")
            await respond(send, 200, self._answer(path, body))

    def _answer(self, path: str, body: Mapping[str, Any]) -> bytes:
        if path == "/tokenize":
            return self._tokenize(body)
        if path == "/detokenize":
            check(body)
            return _json({"prompt": self._vocabulary.decode(body.get("tokens") or [])})
        if path == "/sim/fault":
            inflict(self._drivers, body)
            return b"{}"
        if path.endswith(_RENDER) and path.removesuffix(_RENDER) in _APIS:
            return self._render(_APIS[path.removesuffix(_RENDER)], body)
        raise Refusal(404, "Not Found", kind="NotFoundError")

    async def _infer(self, api: Api, body: Mapping[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        self._check_model(body.get("model"))
        ask = self._reader.read(api, body)
        heading = Heading(
            f"{_ID_PREFIXES[api]}{next(self._numbers):016x}",
            int(time.time()),
            body.get("model") or self._settings.served_names[0],
            ask.max_tokens,
        )
        driver = self._driver(scope)
        running = driver.submit([_request(ask, prompt) for prompt in ask.prompts])
        shape = _SHAPES[api](heading, ask)
        work = self._stream(running, shape, send) if ask.stream else self._whole(running, shape, send)
        try:
            await until_gone(work, receive)
        finally:
            driver.abort(running)

    async def _whole(self, running: Running, shape: Shape, send: Send) -> None:
        await running.ended()
        await respond(send, 200, shape.whole(self._choices(running), self._usage(running)))

    async def _stream(self, running: Running, shape: Shape, send: Send) -> None:
        news = await running.news()
        await begin_stream(send)
        written = [shape.opening(self._usage(running, 0))]
        while news:
            written += [self._chunk(running.requests[each.choice], each, shape) for each in news]
            await send({"type": "http.response.body", "body": b"".join(written), "more_body": True})
            written = []
            news = await running.news()
        last = shape.closing(self._choices(running), self._usage(running))
        await send({"type": "http.response.body", "body": last})

    def _chunk(self, request: EngineRequest, news: News, shape: Shape) -> bytes:
        """One event for each new token: several where the reader was late."""
        prompt, text = request.prompt_tokens, self._vocabulary.text
        written = []
        for number in range(news.begin, news.end):
            is_last = request.finished is not None and number + 1 == request.output_tokens
            usage = Usage(prompt, number + 1, None)
            token = request.tokens[prompt + number]
            written.append(shape.token(news.choice, text(token), request.finished if is_last else None, usage))
        return written[0] if len(written) == 1 else b"".join(written)

    def _choices(self, running: Running) -> list[Choice]:
        text = self._vocabulary.text
        return [
            Choice("".join(map(text, request.tokens[request.prompt_tokens :])), request.finished or "length")
            for request in running.requests
        ]

    def _usage(self, running: Running, completion: int | None = None) -> Usage:
        requests = running.requests
        told = self._settings.cached_tokens_in_usage
        return Usage(
            sum(request.prompt_tokens for request in requests),
            sum(request.output_tokens for request in requests) if completion is None else completion,
            sum(request.cached_tokens or 0 for request in requests) if told else None,
            sum(request.created_cache_tokens(self._settings.block_size) for request in requests) if told else None,
        )

    def _driver(self, scope: Scope) -> Driver:
        """The DP rank that the client names, else the least loaded."""
        named = next((value for name, value in scope["headers"] if name == b"x-data-parallel-rank"), None)
        if named is None:
            return min(self._drivers, key=lambda driver: driver.in_flight)
        with suppress(ValueError, IndexError):
            return self._drivers[int(named)]
        raise Refusal(400, f"X-data-parallel-rank {named.decode()} is not one of {len(self._drivers)} ranks")

    def _check_model(self, name: str | None) -> None:
        if name is not None and name not in self._settings.served_names:
            raise unknown_model(name, self._settings.served_names)

    def _reset_caches(self) -> bool:
        done = [driver.reset_cache() for driver in self._drivers]
        return all(done)

    def _models(self) -> bytes:
        served = self._settings.served_names
        longest = self._settings.limits.max_model_len
        same = {"object": "model", "created": 0, "owned_by": "vllm", "root": self._settings.model, "parent": None}
        data = [{"id": name, **same, "max_model_len": longest} for name in served]
        return _json({"object": "list", "data": data})

    def _event_sources(self) -> bytes:
        publishing = self._settings.publishing
        if publishing is None:
            return _json({})
        sources = {}
        for rank in range(len(self._drivers)):
            of_rank = for_rank(publishing, rank)
            sources[str(rank)] = {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": of_rank.endpoint,
                "replay_endpoint": of_rank.replay_endpoint,
                "buffer_steps": of_rank.buffer_steps,
                "hwm": 100000,
                "topic": of_rank.topic,
            }
        return _json(sources)

    def _tokenize(self, body: Mapping[str, Any]) -> bytes:
        self._check_model(body.get("model"))
        ids = self._reader.prompts("chat" if "messages" in body else "completion", body)[0].tolist()
        longest = self._settings.limits.max_model_len
        return _json({"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": None})

    def _render(self, api: Api, body: Mapping[str, Any]) -> bytes:
        if not self._settings.opens_render:
            raise Refusal(403, "Start the engine with --enable-scale-out to use this endpoint", kind="Forbidden")
        self._check_model(body.get("model"))
        rendered = [{"token_ids": ids.tolist(), "model": body.get("model")} for ids in self._reader.prompts(api, body)]
        return _json(rendered if api == "completion" else rendered[0])

    def _stats(self) -> bytes:
        late = [value for driver in self._drivers for value in driver.latenesses_s]
        totals = [driver.core.totals for driver in self._drivers]
        p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
        return _json(
            {
                "steps": sum(each.steps for each in totals),
                "prompt_tokens": sum(each.prompt_tokens for each in totals),
                "cached_tokens": sum(each.cached_tokens for each in totals),
                "preemptions": sum(each.preemptions for each in totals),
                "cached_blocks": sum(driver.core.pool.cached for driver in self._drivers),
                "step_lateness_p50_ms": None if p50 is None else p50 * 1e3,
                "step_lateness_p99_ms": None if p99 is None else p99 * 1e3,
            }
        )


def _request(ask: Ask, prompt: Any) -> EngineRequest:  # noqa: ANN401 - array[int] has no type at run time before 3.12
    seed = zlib.crc32(prompt)
    own = _SHORTEST_OWN_ANSWER + seed % (_LONGEST_OWN_ANSWER - _SHORTEST_OWN_ANSWER)
    return EngineRequest(prompt, len(prompt), ask.max_tokens, own if ask.stops_by_itself else None, ask.salt, seed=seed)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = msgspec.json.decode(body, type=dict)
    except msgspec.DecodeError as error:
        raise malformed(error) from error
    return parsed


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)

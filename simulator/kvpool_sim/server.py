"""vLLM's HTTP API over simulated engines, as one ASGI application."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from kvpool_sim.about import About
from kvpool_sim.answers.anthropic import MessagesShape
from kvpool_sim.answers.ids import random_id
from kvpool_sim.answers.openai import ChatShape, CompletionShape
from kvpool_sim.answers.responses import ResponsesShape
from kvpool_sim.answers.shape import Heading, Shape
from kvpool_sim.asks import Api, Ask, Reader
from kvpool_sim.driver import Driver
from kvpool_sim.faults import inflict
from kvpool_sim.forms.base import Body
from kvpool_sim.generation import Counting, Generation
from kvpool_sim.http import JSON, PLAIN, TEXT, Receive, Scope, Send, preflight, read_body, respond, until_gone
from kvpool_sim.metrics import Metrics
from kvpool_sim.refusal import Refusal, Unserved, parsed, unknown_response
from kvpool_sim.rendering import ID_PREFIXES, Rendering
from kvpool_sim.settings import Settings
from kvpool_sim.vocabulary import Vocabulary

_APIS: Mapping[str, Api] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
_SHAPES: Mapping[Api, Callable[[Heading, Ask], Shape]] = {
    "chat": lambda heading, ask: ChatShape(heading, ask.usage),
    "completion": lambda heading, ask: CompletionShape(heading, ask.usage),
    "responses": lambda heading, ask: ResponsesShape(heading),
    "messages": lambda heading, ask: MessagesShape(heading),
}
_RENDER = "/render"
_RESPONSES = "/v1/responses/"
_METRICS = "/metrics"
_ALIVE = ("/health", "/ping")
_ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")


class EngineServer:
    """One engine process: its DP ranks and the API in front of them."""

    def __init__(self, settings: Settings, drivers: Sequence[Driver], vocabulary: Vocabulary) -> None:
        self._settings = settings
        self._drivers = drivers
        self._vocabulary = vocabulary
        self._counting = Counting(settings.block_size, settings.cached_tokens_in_usage)
        self._reader = Reader(settings, vocabulary)
        self._metrics = Metrics(settings, drivers)
        self._about = About(settings, drivers).pages
        rendering = Rendering(settings, vocabulary, self._reader)
        self._rendering = rendering
        self._posts: Mapping[str, Callable[[Body], bytes]] = {
            "/tokenize": rendering.tokenized,
            "/detokenize": rendering.detokenized,
            "/v1/messages/count_tokens": rendering.counted,
            "/sim/fault": self._inflict,
        }
        self._deeds: Mapping[str, Callable[[], bytes]] = {
            "/reset_prefix_cache": self._reset_caches,
            "/sleep": self._sleep,
            "/wake_up": self._wake_up,
        }
        rendered = (f"{path}{_RENDER}" for path in _APIS)
        self._paths = (*_ALIVE, *self._about, *_APIS, *rendered, *self._posts, *self._deeds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        try:
            if method == "OPTIONS" and (asked := preflight(scope)) is not None:
                await respond(send, 400, b"Disallowed CORS origin", PLAIN, asked)
            elif path == _METRICS:
                await respond(send, 200, self._metrics.text(), TEXT)
            elif method == "GET":
                await self._get(path, send)
            elif method == "POST":
                await self._post(path, scope, receive, send)
            else:
                raise self._unserved(path, self._paths if not path.startswith(_RESPONSES) else (path,))
        except Refusal as refusal:
            await respond(send, refusal.status, refusal.body(anthropic=path in _ANTHROPIC))

    async def _get(self, path: str, send: Send) -> None:
        if path in _ALIVE:
            await respond(send, 200, b"", None)
        elif path in self._about:
            await respond(send, 200, self._about[path]())
        elif path.startswith(_RESPONSES) and not path.endswith(_RENDER):
            raise unknown_response(path.removeprefix(_RESPONSES))
        else:
            raise self._unserved(path, (*_APIS, *self._posts, *self._deeds))

    async def _post(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path in _APIS:
            await self._infer(_APIS[path], parsed(await read_body(receive)), scope, receive, send)
        elif path in self._posts:
            await respond(send, 200, self._posts[path](parsed(await read_body(receive))))
        elif path in self._deeds:
            done = self._deeds[path]()
            await respond(send, 200, done, JSON if done else None)
        elif path == "/ping":
            await respond(send, 200, b"", None)
        elif path.removesuffix(_RENDER) in _APIS:
            await respond(send, 200, self._render(_APIS[path.removesuffix(_RENDER)], await read_body(receive)))
        else:
            raise self._unserved(path, ("/health", *self._about))

    def _unserved(self, path: str, served_otherwise: Sequence[str]) -> Refusal:
        return Unserved(405, "Method Not Allowed") if path in served_otherwise else Unserved(404, "Not Found")

    def _render(self, api: Api, body: bytes) -> bytes:
        if not self._settings.opens_render:
            mend = "Restart vllm serve with --enable-scale-out to enable them."
            raise Refusal(403, f"Scale-out endpoints are disabled. {mend}", kind="PermissionDeniedError")
        return self._rendering.rendered(api, parsed(body))

    async def _infer(self, api: Api, body: Body, scope: Scope, receive: Receive, send: Send) -> None:
        ask = self._reader.read(api, body)
        driver = self._driver(scope)
        generation = Generation(ask, self._vocabulary, self._counting)
        shape = _SHAPES[api](_heading(ask, _answer_id(api, scope)), ask)
        running = generation.submitted(driver)
        work = (generation.stream if ask.stream else generation.whole)(running, shape, send)
        try:
            await until_gone(work, receive)
        finally:
            driver.abort(running)

    def _driver(self, scope: Scope) -> Driver:
        """The DP rank that the client names, else the least loaded."""
        named = next((value for name, value in scope["headers"] if name == b"x-data-parallel-rank"), None)
        if named is None:
            return min(self._drivers, key=lambda driver: driver.in_flight)
        with suppress(ValueError, IndexError):
            return self._drivers[int(named)]
        raise Refusal(400, f"X-data-parallel-rank {named.decode()} is not one of {len(self._drivers)} ranks")

    def _reset_caches(self) -> bytes:
        done = [driver.reset_cache() for driver in self._drivers]
        return msgspec.json.encode({"success": all(done)})

    def _sleep(self) -> bytes:
        for driver in self._drivers:
            driver.sleep()
        return b""

    def _wake_up(self) -> bytes:
        for driver in self._drivers:
            driver.wake_up()
        return b""

    def _inflict(self, body: Body) -> bytes:
        inflict(self._drivers, body)
        return b"{}"


def _answer_id(api: Api, scope: Scope) -> str:
    """As vLLM makes it: from the request's own id where it has one, except for Responses, whose ids are their own."""
    told = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    return f"{ID_PREFIXES[api]}{(api != 'responses' and told) or random_id()}"


def _heading(ask: Ask, answer_id: str) -> Heading:
    return Heading(
        answer_id,
        int(time.time()),
        ask.model,
        ask.max_tokens,
        ask.sampling.n,
        ask.prompts[0].tolist() if ask.tells_ids and ask.api == "chat" else None,
        ask.instructions,
    )

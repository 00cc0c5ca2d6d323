"""An engine that reads prompts otherwise is found out, said, and never looked for in the map."""

import asyncio
import json
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from door_world import until, worker
from kvpool_api.wire import ASKS_ENGINES, TokenParity
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import Prompt, TextPrompt, TokenIds
from kvpool_router.tokens.canary import AGREES, NOT_ASKED, NOT_COMPARED, NOT_TOLD, Canary
from kvpool_router.tokens.engine_ids import EngineIds
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.faithful import FaithfulTokenizer
from kvpool_router.tokens.hf_impl import HfTokenizer
from kvpool_router.tokens.ids_impl import IdsTokenizer
from kvpool_router.tokens.protocol import Tokenizer
from kvpool_router.tokens.template import ChatTemplate
from kvpool_router.workers import Worker
from tiny_engine import Respond, TinyEngine, answers
from tiny_tokenizer import tiny_tokenizer

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OTHER = TEMPLATE + "{% if enable_thinking is defined %}!{% endif %}"


def tokenizer(template: str = TEMPLATE) -> HfTokenizer:
    return HfTokenizer(tiny_tokenizer(), ChatTemplate({"default": template}, {}), "in process, from a test")


def engine_of(template: str = TEMPLATE, *, opened: bool = True) -> Respond:
    """Reads prompts as a router with that template does."""
    own = tokenizer(template)

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        told = json.loads(body)
        if request.path != "/tokenize" and not opened:
            return web.json_response({}, status=403)
        prompt: Prompt = TextPrompt(told["prompt"]) if "prompt" in told else peeked(body)
        ids = array("I", await own.encode(prompt)).tolist()
        return web.json_response({"tokens": ids} if request.path == "/tokenize" else {"token_ids": ids})

    return respond


def peeked(body: bytes) -> Prompt:
    (prompt,) = peek("/v1/chat/completions", body).prompts
    return prompt


@asynccontextmanager
async def canary(used: Tokenizer, *engines: TinyEngine) -> AsyncIterator[tuple[Canary, list[Worker]]]:
    async with aiohttp.ClientSession() as session:
        asked = Canary(EngineIds(session), first_pause_s=0.01)
        workers = [worker(f"engine-{number}", engine.url) for number, engine in enumerate(engines)]
        asked.use(used)
        asked.follow(tuple(workers))
        try:
            yield asked, workers
        finally:
            await asked.close()


def told(asked: Canary, one: Worker) -> Callable[[], bool]:
    return lambda: asked.verdict(one) != NOT_ASKED


@pytest.mark.parametrize("opened", [True, False])
async def test_an_engine_with_the_same_files_agrees_whichever_way_it_tells_its_ids(opened: bool) -> None:
    async with TinyEngine(engine_of(opened=opened)) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        await until(told(asked, one))
        assert asked.verdict(one) == AGREES
        assert (asked.misread, asked.doubt) == (frozenset(), None)


async def test_one_engine_among_others_that_differs_is_not_looked_for_in_the_map() -> None:
    async with (
        TinyEngine(engine_of()) as same,
        TinyEngine(engine_of(OTHER)) as other,
        canary(tokenizer(), same, other) as (asked, (one, two)),
    ):
        await until(lambda: asked.verdict(two).parity is TokenParity.DIFFERS and asked.verdict(one) == AGREES)
        assert (asked.misread, asked.doubt) == (frozenset({two.id}), None)
        assert "a chat without thinking" in asked.verdict(two).reason
        asked.follow((one,))
        assert asked.misread == frozenset()


async def test_where_all_engines_differ_they_tokenize_until_one_agrees() -> None:
    async with TinyEngine(engine_of(OTHER)) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        faithful = FaithfulTokenizer(tokenizer(), asked, IdsTokenizer)
        assert faithful.reads_itself
        await until(lambda: asked.doubt is not None)
        assert asked.misread == frozenset()
        assert not faithful.reads_itself
        assert faithful.description == f"token ids only: {asked.doubt[0].lower()}{asked.doubt[1:-1]}"
        engine.respond = engine_of()
        await until(lambda: asked.verdict(one) == AGREES)
        assert faithful.description == "in process, from a test"
        assert await faithful.encode(TextPrompt("x")) == await tokenizer().encode(TextPrompt("x"))


async def test_a_difference_that_passes_is_none() -> None:
    async with TinyEngine(engine_of(OTHER)) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        seen = []

        async def once(request: web.Request, body: bytes) -> web.StreamResponse:
            seen.append(asked.verdict(one))
            return await engine_of(OTHER if len(seen) < 6 else TEMPLATE)(request, body)

        engine.respond = once
        await until(lambda: asked.verdict(one) == AGREES)
        assert {each.parity for each in seen} == {TokenParity.UNKNOWN}


@pytest.mark.parametrize("status", [200, 500, 503])
async def test_a_silent_engine_is_asked_until_it_answers_and_each_new_process_anew(status: int) -> None:
    async with TinyEngine(answers({}, status)) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        await until(told(asked, one))
        assert "gives no answer" in asked.verdict(one).reason
        engine.respond = engine_of()
        await until(lambda: asked.verdict(one) == AGREES)
        restarted = replace(one, restart_count=1)
        assert asked.verdict(restarted) == NOT_ASKED
        asked.follow((restarted,))
        await until(lambda: asked.verdict(restarted) == AGREES)
        calls = len(engine.seen)
        asked.follow((restarted,))
        await asyncio.sleep(0)
        assert len(engine.seen) == calls


async def test_an_engine_without_either_page_stays_unknown_and_is_believed() -> None:
    async with TinyEngine(answers({}, 404)) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        await until(told(asked, one))
        assert asked.verdict(one) == NOT_TOLD
        assert (asked.misread, asked.doubt) == (frozenset(), None)


async def test_a_prompt_that_the_engine_refuses_is_not_compared() -> None:
    async def refuses_chats(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path == "/tokenize":
            return await engine_of()(request, body)
        return web.json_response({}, status=400)

    async with TinyEngine(refuses_chats) as engine, canary(tokenizer(), engine) as (asked, (one,)):
        await until(told(asked, one))
        assert asked.verdict(one) == AGREES


async def test_a_template_that_only_the_engine_has_is_a_difference() -> None:
    without = HfTokenizer(tiny_tokenizer(), ChatTemplate({}, {}), "a test")
    async with TinyEngine(engine_of()) as engine, canary(without, engine) as (asked, (one,)):
        await until(lambda: asked.verdict(one).parity is TokenParity.DIFFERS)
        assert asked.verdict(one).reason == "The engine tokenizes a chat, which this router cannot."


async def test_where_engines_tokenize_anyhow_there_is_nothing_to_compare() -> None:
    class Unequal:
        reads_itself = False
        description = ASKS_ENGINES

        async def encode(self, prompt: Prompt) -> TokenIds:
            return b""

    async with TinyEngine(engine_of()) as engine, canary(Unequal(), engine) as (asked, (one,)):
        assert asked.verdict(one) == NOT_COMPARED
        asked.use(tokenizer())
        await until(lambda: asked.verdict(one) == AGREES)
        asked.use(Unequal())
        assert asked.verdict(one) == NOT_COMPARED


async def test_the_way_to_engines_is_open_before_any_of_them_is_there() -> None:
    async with aiohttp.ClientSession() as session:
        asked = Canary(EngineIds(session))
        asked.follow(())
        assert asked.doubt is None
        assert not EngineTokenizer(EngineIds(session), lambda: None, "x").reads_itself
        await asked.close()

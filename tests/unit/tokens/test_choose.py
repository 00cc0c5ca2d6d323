"""The model's files where they can be had, else the engines until they can; which it is now is said in one line."""

import itertools
import json
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import aiohttp
import pytest
from aiohttp import web
from kvpool_api.wire import TokenizerConfig, UntokenizedCause
from kvpool_router.loading import LoadingTokenizer
from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, TextPrompt, TokenPrompt
from kvpool_router.tokens.choose import choose_tokenizer, pauses_s
from kvpool_router.tokens.engine_ids import EngineIds
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.hub import Hub, NotHeld
from kvpool_router.tokens.ids_impl import IdsTokenizer
from kvpool_router.tokens.protocol import Tokenizer, Untokenizable
from tiny_engine import Respond, TinyEngine, answers
from tiny_tokenizer import write_model_folder

IMAGE = OpaquePrompt(UntokenizedCause.MEDIA, "an image")


class PlayedHub:
    """A hub that fails `failures` times with words of their own, and has its files from then on."""

    def __init__(self, folder: Path | None = None, failures: tuple[str, ...] = (), *, offline: bool = False) -> None:
        self.folder = folder
        self.failures = iter(failures)
        self.asked: list[tuple[str, str | None]] = []
        self.hub = Hub(self.cached, self.fetched, offline)

    def cached(self, name: str, revision: str | None) -> Path:
        raise NotHeld("nothing is cached")

    def fetched(self, name: str, revision: str | None) -> Path:
        self.asked.append((name, revision))
        for why in self.failures:
            raise NotHeld(why)
        assert self.folder is not None
        return self.folder


def choices(config: TokenizerConfig, hub: Hub, pauses: Iterator[float] | None = None) -> AsyncIterator[Tokenizer]:
    return choose_tokenizer(config, IdsTokenizer, hub, pauses or itertools.repeat(0.0))


async def described(config: TokenizerConfig, hub: Hub) -> list[str]:
    return [each.description async for each in choices(config, hub)]


NAMED = TokenizerConfig(hub_name="org/model", hub_revision="main")


async def test_a_configured_folder_comes_first_and_is_all(tmp_path: Path) -> None:
    folder, hub = write_model_folder(tmp_path), PlayedHub()
    found = await described(TokenizerConfig(path=str(folder), hub_name="org/model"), hub.hub)
    assert (found, hub.asked) == ([f"in process, from {folder}"], [])


async def test_the_hubs_cache_on_disk_comes_next_and_nobody_is_asked(tmp_path: Path) -> None:
    folder, away = write_model_folder(tmp_path), PlayedHub()
    found = await described(NAMED, Hub(lambda name, revision: folder, away.fetched, offline=False))
    assert (found, away.asked) == ([f"in process, from {folder}"], [])


async def test_engines_tokenize_until_the_hub_has_answered(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    hub = PlayedHub(folder, ("no network", "no network", "429"))
    assert await described(NAMED, hub.hub) == [
        "token ids only: nothing is cached; the hub is being asked",
        "token ids only: no network; the hub is asked again now and then",
        "token ids only: 429; the hub is asked again now and then",
        f"in process, from {folder}",
    ]
    assert hub.asked == [("org/model", "main")] * 4


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (TokenizerConfig(), "neither a folder nor a name"),
        (TokenizerConfig(path="/nowhere", hub_name="org/model"), "holds no tokenizer.json"),
        (NAMED, "nothing is cached, and HF_HUB_OFFLINE is set"),
    ],
)
async def test_where_no_hub_will_answer_engines_are_asked_for_good_and_the_reason_told(
    config: TokenizerConfig, why: str
) -> None:
    hub = PlayedHub(offline=True)
    (found,) = await described(config, hub.hub)
    assert why in found
    assert hub.asked == []


async def test_a_broken_chat_template_leaves_the_engine_to_be_asked(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path, "{% for %}")
    (found,) = await described(TokenizerConfig(path=str(folder)), PlayedHub().hub)
    assert "TemplateSyntaxError" in found
    *_, last = await described(NAMED, PlayedHub(folder).hub)
    assert "TemplateSyntaxError" in last


def test_the_hub_is_asked_ever_less_often_and_by_each_router_at_its_own_time() -> None:
    first, second = (list(itertools.islice(pauses_s(Random(seed)), 12)) for seed in (1, 2))
    assert first != second
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(first[:8]))
    assert 150 <= min(first[-2:]) <= max(first[-2:]) <= 300


async def test_a_loading_tokenizer_is_settled_by_what_is_at_hand_and_takes_each_better_one(
    tmp_path: Path,
) -> None:
    tokenizer = LoadingTokenizer(IdsTokenizer("starting"))
    settled: list[tuple[bool, str]] = []
    chosen = choices(NAMED, PlayedHub(write_model_folder(tmp_path)).hub)

    async def watched() -> AsyncIterator[Tokenizer]:
        async for each in chosen:
            settled.append((tokenizer.settled, tokenizer.description))
            yield each

    await tokenizer.follow(watched())
    assert settled == [
        (False, "token ids only: starting"),
        (True, "token ids only: nothing is cached; the hub is being asked"),
    ]
    assert "in process" in tokenizer.description


USER = {"role": "user", "content": "x"}


def renders(*, opened: bool) -> Respond:
    """Other ids by each way."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path == "/tokenize":
            return web.json_response({"count": 2, "tokens": [7, 8]})
        return web.json_response({"token_ids": [9]}) if opened else web.json_response({}, status=403)

    return respond


@pytest.mark.parametrize(("opened", "ids"), [(True, [9]), (False, [7, 8])])
async def test_an_engine_renders_chats_where_that_is_opened_and_tokenizes_the_rest(
    opened: bool, ids: list[int]
) -> None:
    async with TinyEngine(renders(opened=opened)) as engine, aiohttp.ClientSession() as session:
        tokenizer = EngineTokenizer(EngineIds(session), lambda: engine.url, "no files")
        assert array("I", await tokenizer.encode(TextPrompt("hi", False))).tolist() == [7, 8]
        chat = ChatPrompt([USER], tools=[], template_arguments={"a": 1}, calls_no_tool=True)
        assert array("I", await tokenizer.encode(chat)).tolist() == ids
        assert await tokenizer.encode(TokenPrompt(b"\1\0\0\0")) == b"\1\0\0\0"
        text, asked = (json.loads(each.body) for each in engine.seen[:2])
        assert text == {"prompt": "hi", "add_special_tokens": False}
        assert (asked["messages"], asked["tools"], asked["tool_choice"]) == ([USER], [], "none")
        assert asked["chat_template_kwargs"] == {"a": 1}


@pytest.mark.parametrize("what", ["late_system", "no_thinking"])
async def test_what_only_its_own_endpoint_converts_is_not_asked_of_another(what: str) -> None:
    async with aiohttp.ClientSession() as session:
        tokenizer = EngineTokenizer(EngineIds(session), lambda: None, "no files")
        with pytest.raises(Untokenizable, match="own endpoint") as refused:
            await tokenizer.encode(replace(ChatPrompt([USER]), **{what: True}))
        assert refused.value.cause is UntokenizedCause.ENGINE_ONLY


async def test_an_engine_that_fails_makes_the_prompt_opaque_not_the_request_wrong() -> None:
    async with TinyEngine(answers({}, 500)) as broken, aiohttp.ClientSession() as session:
        for url, why in ((broken.url, "500"), ("http://127.0.0.1:9", "failed"), (None, "no engine is ready")):
            with pytest.raises(Untokenizable, match=why):
                await EngineTokenizer(EngineIds(session), lambda url=url: url, "no files").encode(TextPrompt("x"))
        with pytest.raises(Untokenizable, match="an image"):
            await EngineTokenizer(EngineIds(session), lambda: None, "no files").encode(IMAGE)


async def test_without_any_tokenizer_ids_still_pass() -> None:
    tokenizer = IdsTokenizer("none given")
    assert await tokenizer.encode(TokenPrompt(b"\1\0\0\0")) == b"\1\0\0\0"
    for prompt, why in (
        (TextPrompt("x"), "no tokenizer"),
        (IMAGE, "an image"),
    ):
        with pytest.raises(Untokenizable, match=why):
            await tokenizer.encode(prompt)

"""Requests for LoRA adapters reach the engines that serve them, and count only blocks of their own."""

import json

import aiohttp
from aiohttp import web
from door_world import MODEL, door, worker
from kvpool_router.adapters import BETWEEN_MISSES_S, TRUE_FOR_S, Adapters
from kvpool_router.requests.models import adapter_names
from kvpool_router.workers import Roster
from tiny_engine import TinyEngine

ANSWER = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}


class LoraEngine(TinyEngine):
    """Serves the pool's model and these adapters."""

    def __init__(self, *adapters: str) -> None:
        super().__init__(self._respond)
        self.adapters = adapters

    async def _respond(self, request: web.Request, body: bytes) -> web.Response:
        if request.path != "/v1/models":
            return web.json_response(ANSWER)
        cards = [{"id": MODEL, "parent": None}, *({"id": name, "parent": MODEL} for name in self.adapters)]
        return web.json_response({"object": "list", "data": cards})

    def count(self, path: str) -> int:
        return sum(seen.target == path for seen in self.seen)


def body(model: str) -> dict[str, object]:
    return {"model": model, "prompt": [1, 2, 3]}


async def test_an_adapter_is_asked_of_the_engines_that_serve_it_only() -> None:
    async with LoraEngine("sql") as with_it, LoraEngine() as without, door([with_it, without]) as there:
        for _ in range(4):
            assert (await there.post("/v1/completions", body("sql")))[0] == 200
        assert (with_it.count("/v1/completions"), without.count("/v1/completions")) == (4, 0)
        assert with_it.count("/v1/models") == 1
        assert {namespace.lora_name for _, _, namespace in there.deps.cache.prompts} == {"sql"}


async def test_the_pools_own_names_ask_nobody_for_adapters_and_share_no_blocks_with_them() -> None:
    async with LoraEngine("sql") as engine, door([engine]) as there:
        for name in (MODEL, "alias"):
            assert (await there.post("/v1/completions", body(name)))[0] == 200
        assert engine.count("/v1/models") == 0
        assert {namespace.lora_name for _, _, namespace in there.deps.cache.prompts} == {None}


async def test_a_name_that_nobody_serves_is_not_found_and_known_adapters_are_named() -> None:
    async with LoraEngine("sql") as engine, door([engine]) as there:
        for _ in range(3):
            status, answer = await there.post("/v1/completions", body("nope"))
            assert status == 404
            assert f"serves: {MODEL}, alias, sql." in json.loads(answer)["error"]["message"]
        assert (engine.count("/v1/models"), engine.count("/v1/completions")) == (1, 0)


async def test_a_name_may_be_an_adapters_as_long_as_an_engine_has_not_told() -> None:
    async with LoraEngine("sql") as engine, door([engine]) as there:
        there.deps.roster.replace((worker("a", engine.url), worker("silent", "http://127.0.0.1:1")))
        status, answer = await there.post("/v1/completions", body("python"))
        assert (status, "send the request again" in json.loads(answer)["error"]["message"]) == (503, True)
        assert (await there.post("/v1/completions", body("sql")))[0] == 200
        there.deps.roster.replace(())
        assert (await there.post("/v1/completions", body("python")))[0] == 503


def test_only_models_that_stand_on_another_are_adapters() -> None:
    listing = {"data": [{"id": "base", "parent": None}, {"id": "old"}, {"id": "sql", "parent": "base"}]}
    assert adapter_names(json.dumps(listing).encode()) == {"sql"}
    assert adapter_names(b"<html>") == frozenset()
    assert adapter_names(b'{"data": [1]}') == frozenset()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_loaded_later_is_found_and_a_silent_engine_keeps_what_it_said() -> None:
    clock, roster = Clock(), Roster()
    async with LoraEngine() as engine, aiohttp.ClientSession() as session:
        roster.replace((worker("a", engine.url),))
        adapters = Adapters(session, clock, roster)
        assert not await adapters.engines("sql")
        engine.adapters = ("sql",)
        assert not await adapters.engines("sql")
        clock.now += BETWEEN_MISSES_S
        assert list(await adapters.engines("sql")) == [engine.url]
    async with aiohttp.ClientSession() as session:
        adapters._session = session
        clock.now += TRUE_FOR_S
        assert list(await adapters.engines("sql")) == [engine.url]
        await adapters._asking
        assert list(await adapters.engines("sql")) == [engine.url]
        roster.replace(())
        clock.now += TRUE_FOR_S
        await adapters.engines("sql")
        await adapters._asking
        assert not await adapters.engines("sql")
        await adapters.close()

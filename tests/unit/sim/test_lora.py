"""Adapters of a simulated engine: listed, served, and with blocks of their own."""

import json

import msgspec
import pytest
from kvpool_router.events.wire import decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.workers import WorkerId
from kvpool_sim.arguments import SettingsError
from sim_engine import ALL_FLAGS, settings, sim_engine

LORA = ("--enable-lora", "--lora-modules", "sql=/adapters/sql", '{"name": "chat", "path": "/adapters/chat"}')
PROMPT = list(range(70))


async def test_adapters_are_listed_below_their_model_and_answer_by_their_names():
    async with sim_engine(*LORA) as engine:
        cards = (await engine.get("/v1/models"))["data"]
        assert [(card["id"], card["parent"]) for card in cards] == [("tiny", None), ("sql", "tiny"), ("chat", "tiny")]
        assert cards[1]["root"] == "/adapters/sql"
        answer = await engine.post("/v1/completions", {"model": "sql", "prompt": PROMPT, "max_tokens": 1})
        assert answer["model"] == "sql"
        await engine.post("/v1/completions", {"model": "nope", "prompt": PROMPT}, 404)


async def test_blocks_of_an_adapter_serve_nobody_else_and_their_events_say_whose_they_are(tmp_path):
    config = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"})
    async with sim_engine(*ALL_FLAGS, *LORA, "--kv-events-config", config) as engine:
        batches = engine.drivers[0].publisher._buffer

        async def cached(model, **more):
            body = {"model": model, "prompt": PROMPT, "max_tokens": 1, **more}
            usage = (await engine.post("/v1/completions", body))["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"]

        asked = [("tiny", {}), ("sql", {}), ("sql", {"cache_salt": "s"}), ("chat", {})]
        assert [await cached(model, **more) for model, more in asked] == [0] * 4
        assert [await cached(model, **more) for model, more in asked] == [64] * 4
        index, here = CacheMap(16, 60.0, None), WorkerId("a", 0)
        for _, batch in batches:
            index.apply(here, decode(batch).events)
        stored = [event for _, batch in batches for event in msgspec.msgpack.decode(batch)[1]]
        assert [event["lora_name"] for event in stored[:3]] == [None, "sql", "sql"]
    prompt = b"".join(each.to_bytes(4, "little") for each in PROMPT)
    for namespace in (Namespace(), Namespace("sql"), Namespace("sql", "s"), Namespace("chat")):
        assert index.match(prompt, namespace, 0.0)[here].cached_tokens == 64
    assert not index.match(prompt, Namespace("other"), 0.0)


def test_modules_mean_nothing_without_lora_and_need_a_name_and_a_path():
    assert not settings("--lora-modules", "sql=/a").adapters
    with pytest.raises(SettingsError, match="--lora-modules sql: neither"):
        settings("--enable-lora", "--lora-modules", "sql")

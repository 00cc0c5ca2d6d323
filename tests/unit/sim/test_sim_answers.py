"""What a client sees of a batch, of the cache in `usage`, and of a cleared cache; the rules are vLLM 0.32.0's."""

import asyncio
import json
from array import array

import msgspec
import pytest
import zmq
import zmq.asyncio
from eventually import eventually
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.driver import News, Running
from sim_engine import ALL_FLAGS, sim_engine

IDS = list(range(10, 60))
USER = [{"role": "user", "content": "hello there " * 30}]


def chunks(text: str) -> list:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def test_the_prompts_of_a_batch_are_told_as_they_advance_with_a_usage_of_their_own():
    async with sim_engine(*ALL_FLAGS, speed="2") as engine:
        body = {"model": "tiny", "prompt": [IDS, IDS[:20]], "max_tokens": 20, "ignore_eos": True}
        *told, last = chunks(await engine.stream("/v1/completions", body))
    order = [chunk["choices"][0]["index"] for chunk in told]
    assert order.count(0) == order.count(1) == 20
    assert set(order[:20]) == {0, 1}
    for index, prompt in enumerate((50, 20)):
        mine = [chunk for chunk in told if chunk["choices"][0]["index"] == index]
        assert [chunk["usage"]["completion_tokens"] for chunk in mine] == list(range(1, 21))
        assert {chunk["usage"]["prompt_tokens"] for chunk in mine} == {prompt}
        assert [chunk["choices"][0]["finish_reason"] for chunk in mine] == [None] * 19 + ["length"]
    assert last["usage"]["completion_tokens"] == 40
    assert last["usage"]["prompt_tokens"] == 70


async def test_a_chat_tells_what_it_put_into_the_cache_and_a_completion_does_not():
    async with sim_engine(*ALL_FLAGS) as engine:
        body = {"model": "tiny", "messages": USER, "max_tokens": 1}
        usages = [(await engine.post("/v1/chat/completions", body))["usage"] for _ in range(2)]
        prompt = usages[0]["prompt_tokens"]
        first, second = (usage["prompt_tokens_details"] for usage in usages)
        assert (first["cached_tokens"], first["created_cache_tokens"]) == (0, prompt // 16 * 16)
        assert second["cached_tokens"] == (prompt - 1) // 16 * 16
        assert second["cached_tokens"] + second["created_cache_tokens"] == prompt // 16 * 16
        streamed = chunks(await engine.stream("/v1/chat/completions", body))[-1]["usage"]["prompt_tokens_details"]
        assert streamed == {key: second[key] for key in ("cached_tokens", "created_cache_tokens")}
        plain = await engine.post("/v1/completions", {"model": "tiny", "prompt": IDS, "max_tokens": 1})
        assert plain["usage"]["prompt_tokens_details"]["created_cache_tokens"] is None


async def test_messages_split_their_input_into_read_created_and_the_rest_only_where_the_cache_is_told():
    body = {"model": "tiny", "messages": USER, "max_tokens": 1}
    async with sim_engine(*ALL_FLAGS) as engine:
        for _ in range(2):
            usage = (await engine.post("/v1/messages", body))["usage"]
            parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            total = (await engine.post("/tokenize", {"model": "tiny", "messages": USER}))["count"]
            assert sum(usage[part] for part in parts) == total
    async with sim_engine() as engine:
        usage = (await engine.post("/v1/messages", body))["usage"]
        assert list(usage) == ["input_tokens", "output_tokens"]
        assert usage["input_tokens"] == total


async def test_a_cleared_cache_is_told_in_the_batch_of_the_next_step(tmp_path):
    config = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"})
    context = zmq.asyncio.Context()
    async with sim_engine("--kv-events-config", config) as engine:
        sub = context.socket(zmq.SUB)
        sub.subscribe(b"")
        sub.connect(f"ipc://{tmp_path}/e")
        publisher = engine.drivers[0].publisher
        assert publisher is not None

        async def heard():
            publisher.publish_raw(b"hello")
            return await sub.poll(50)

        await eventually(heard)
        while await sub.poll(100):
            await sub.recv_multipart()
        body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
        batches = []
        for reset in (False, True):
            if reset:
                async with engine.http.post(engine.url + "/reset_prefix_cache") as answer:
                    assert answer.status == 200
                assert not await sub.poll(100)
            await engine.post("/v1/completions", body)
            assert await sub.poll(5000)
            batches.append(msgspec.msgpack.decode((await sub.recv_multipart())[2])[1])
        sub.close(linger=0)
    context.destroy(linger=0)
    assert [[event["type"] for event in batch] for batch in batches] == [
        ["BlockStored"],
        ["AllBlocksCleared", "BlockStored"],
    ]
    assert batches[0][0]["block_hashes"] == batches[1][1]["block_hashes"]


@pytest.fixture
def pair():
    return [EngineRequest(array("I", [1, 2]), 2, 5) for _ in range(2)]


async def test_a_reader_gets_what_it_missed_at_once_and_nothing_after_the_end(pair):
    running = Running(pair)
    reading = asyncio.create_task(running.news())
    await asyncio.sleep(0)
    pair[1].tokens.extend([7, 8])
    running.notify(pair[1])
    running.notify(pair[1])
    assert await reading == [News(1, 0, 2)]
    for request in pair:
        request.tokens.append(9)
        request.finished = "length"
        running.notify(request)
    assert await running.news() == [News(0, 0, 1), News(1, 2, 3)]
    assert await running.news() == []


async def test_who_waits_for_the_end_is_not_woken_before(pair):
    running = Running(pair)
    waiting = asyncio.create_task(running.ended())
    await asyncio.sleep(0)
    pair[0].tokens.append(9)
    running.notify(pair[0])
    pair[0].finished = "stop"
    running.notify(pair[0])
    await asyncio.sleep(0)
    assert not waiting.done()
    pair[1].finished = "length"
    running.notify(pair[1])
    await waiting

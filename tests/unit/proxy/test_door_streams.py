"""A stream through the door: what the client sees, what the engine sees, what is booked."""

import asyncio
import json

import pytest
from door_world import MODEL, door, until, worker
from kvpool_router.index.cache_map import CacheMap
from sim_engine import sim_engine
from tiny_engine import TinyEngine, answers, chat_events, dies, streams


def chat(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hi"}], **fields}


def prompt(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "stream": True, "prompt": list(range(32)), **fields}


async def test_a_stream_passes_unchanged_but_for_the_usage_event_that_nobody_asked_for() -> None:
    async with TinyEngine() as engine, door([engine]) as world:
        status, body = await world.post("/v1/chat/completions", chat())
        events = chat_events()
        assert status == 200
        assert body == b"".join(events[:3] + events[4:])


async def test_a_client_that_asked_for_usage_gets_its_event() -> None:
    async with TinyEngine() as engine, door([engine]) as world:
        _, body = await world.post("/v1/chat/completions", chat(stream_options={"include_usage": True}))
        assert body == b"".join(chat_events())


async def test_usage_and_first_token_are_booked_for_the_decision() -> None:
    async with TinyEngine() as engine, door([engine]) as world:
        await world.post("/v1/completions", prompt())
        (record,) = await world.finished()
        assert record.usage is not None
        assert (record.usage.prompt_tokens, record.usage.cached_tokens, record.usage.output_tokens) == (32, 16, 3)
        assert record.ttft_s is not None
        assert record.outcome == "ok"
        assert world.deps.load.in_flight(world.deps.roster.workers[0].id) == 0


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream_options": None},
        {"stream_options": {"include_usage": False, "continuous_usage_stats": True}},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ],
)
async def test_a_client_sees_the_usage_that_it_asked_for_as_if_it_had_asked_the_engine(
    path: str, options: dict[str, object]
) -> None:
    body = {**chat(**options), "model": MODEL, "prompt": list(range(40)), "max_tokens": 3, "seed": 1}
    async with sim_engine("--enable-prompt-tokens-details") as engine:
        direct = await engine.stream(path, body)
        async with door([worker("e0", engine.url)]) as world:
            status, through = await world.post(path, body)
            (record,) = await world.finished()
    assert status == 200
    assert [_shape(line) for line in through.decode().split("\n")] == [_shape(line) for line in direct.split("\n")]
    assert record.usage is not None
    assert record.usage.output_tokens == 3


def _shape(line: str) -> object:
    """An event's data without what differs from request to request."""
    if not line.startswith("data: {"):
        return line
    event = json.loads(line.removeprefix("data: "))
    usage = event.get("usage") or {}
    usage.pop("prompt_tokens_details", None)
    choices = [(choice["index"], choice["finish_reason"], list(choice)) for choice in event["choices"]]
    return list(event), event.get("system_fingerprint"), choices, usage


async def test_the_engine_gets_the_very_bytes_of_the_body_and_the_request_id() -> None:
    raw = b'{ "model" : "tiny", "stream":true, "prompt":[1,2,3], "stream_options":{"include_usage":true}, "x":{"y":1} }'
    async with TinyEngine() as engine, door([engine]) as world:
        headers = {"X-Request-Id": "mine", "Content-Type": "application/json", "Authorization": "Bearer k"}
        async with world.client.post(world.url + "/v1/completions?a=b%20c", data=raw, headers=headers) as answer:
            await answer.read()
            assert answer.headers["x-request-id"] == "mine"
        (seen,) = engine.seen
        assert seen.body == raw
        assert seen.target == "/v1/completions?a=b%20c"
        assert seen.headers["x-request-id"] == "mine"
        assert seen.headers["authorization"] == "Bearer k"
        assert "x-data-parallel-rank" not in seen.headers


async def test_a_stream_that_asks_for_no_usage_is_sent_on_with_that_one_field_more() -> None:
    raw = b'{ "model" : "tiny", "stream":true, "prompt":[1,2,3] }\n'
    async with TinyEngine() as engine, door([engine]) as world:
        async with world.client.post(world.url + "/v1/completions", data=raw) as answer:
            await answer.read()
        (seen,) = engine.seen
        assert seen.body == raw.rstrip(b"}\n") + b',"stream_options":{"include_usage":true}}'


async def test_an_engine_that_dies_before_its_first_byte_is_replaced_by_another() -> None:
    dead, dying, alive = TinyEngine(dies()), TinyEngine(streams(die_after=0)), TinyEngine()
    async with dead, dying, alive, door([dead, dying, alive]) as world:
        for _ in range(3):
            status, body = await world.post("/v1/completions", prompt())
            assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert len(alive.seen) == 3
        assert world.noted.retries


async def test_a_stream_that_breaks_off_ends_with_an_error_event() -> None:
    async with TinyEngine(streams(die_after=2)) as engine, door([engine]) as world:
        status, body = await world.post("/v1/completions", prompt())
        assert status == 200
        *_, error, done, rest = body.split(b"\n\n")
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == 502
        assert (done, rest) == (b"data: [DONE]", b"")
        (record,) = await world.finished()
        assert record.outcome == "engine broke off"


async def test_a_client_that_leaves_aborts_the_engines_work() -> None:
    gate = asyncio.Event()
    async with TinyEngine(streams(gate=gate)) as engine, door([engine]) as world:
        request = asyncio.create_task(world.post("/v1/completions", prompt()))
        await until(lambda: engine.seen)
        request.cancel()
        await asyncio.wait_for(engine.aborted.wait(), 5)
        (record,) = await world.finished()
        assert record.outcome == "client gone"
        assert world.deps.load.in_flight(world.deps.roster.workers[0].id) == 0


async def test_what_a_client_left_before_its_first_byte_is_not_expected_there() -> None:
    gate, cache = asyncio.Event(), CacheMap(16, 60.0, 4096)
    async with TinyEngine(streams(gate=gate)) as engine, door([engine], cache=cache) as world:
        request = asyncio.create_task(world.post("/v1/completions", prompt()))
        await until(lambda: engine.seen)
        assert cache.size().predictions == 1
        request.cancel()
        await world.finished()
        assert cache.size().predictions == 0


async def test_an_engines_refusal_passes_with_its_own_words() -> None:
    error = {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}}
    async with TinyEngine(answers(error, 400)) as engine, door([engine]) as world:
        status, body = await world.post("/v1/completions", prompt())
        assert (status, json.loads(body)) == (400, error)
        (record,) = await world.finished()
        assert record.outcome == "400"

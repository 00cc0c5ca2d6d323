"""What the door refuses by itself, in the words and the shape that each API's clients know."""

import asyncio
import json

import pytest
from door_world import MODEL, door, until, worker
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.requests.paths import dialect_of, resolve, stored_id
from kvpool_router.requests.refusal import Dialect, Refusal, shortened
from tiny_engine import TinyEngine, dies


@pytest.mark.parametrize(
    "path", ["/v1/load_lora_adapter", "/sleep", "/reset_prefix_cache", "/v1/chat/completions/render", "/collective_rpc"]
)
async def test_paths_that_manage_an_engine_are_forbidden(path: str) -> None:
    async with TinyEngine() as engine, door([engine]) as world:
        status, body = await world.post(path, {})
        assert status == 403
        assert json.loads(body)["error"]["type"] == "PermissionDeniedError"
        assert engine.seen == []


async def test_other_paths_are_not_found_and_wrong_methods_are_told_the_right_one() -> None:
    async with door([]) as world:
        assert (await world.post("/v1/embeddings", {}))[0] == 404
        async with world.client.get(world.url + "/v1/completions") as answer:
            assert answer.status == 405
            assert answer.headers["allow"] == "POST"


async def test_an_unknown_model_is_not_found_as_the_engine_would_say() -> None:
    async with TinyEngine() as engine, door([engine]) as world:
        status, body = await world.post("/v1/completions", {"model": "nope", "prompt": "x"})
        error = json.loads(body)["error"]
        assert (status, error["type"], error["param"], error["code"]) == (404, "NotFoundError", "model", 404)
        assert error["message"].startswith("The model `nope` does not exist.")
        assert MODEL in error["message"]
        assert world.noted.refusals == [("/v1/completions", 404)]


async def test_malformed_json_is_refused_in_the_shape_of_the_path() -> None:
    async with door([]) as world:
        for path in ("/v1/chat/completions", "/v1/messages"):
            async with world.client.post(world.url + path, data=b'{"model": ') as answer:
                assert answer.status == 400
                told = await answer.json()
            if path == "/v1/messages":
                assert told["type"] == "error"
                assert told["error"]["type"] == "invalid_request_error"
            else:
                assert told["error"]["type"] == "BadRequestError"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "object"),
        (b'{"model": 3}', "'model' must be a string"),
        (b'{"messages":' + b"[" * 5000, "deep"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b'{"prompt": 5, "model": "\xff"}', "UTF-8"),
    ],
)
async def test_a_body_that_is_no_request_at_all_is_refused(body: bytes, why: str) -> None:
    async with door([]) as world, world.client.post(world.url + "/v1/chat/completions", data=body) as answer:
        assert answer.status == 400
        assert why in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_declared_or_not(chunked: bool) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 100

    async with door([], max_body_bytes=1000) as world:
        data = pieces() if chunked else b"x" * 2000
        async with world.client.post(world.url + "/v1/completions", data=data) as answer:
            assert answer.status == 413
            assert "spec.router.maxBodyBytes" in (await answer.json())["error"]["message"]


async def test_an_empty_pool_says_when_to_try_again() -> None:
    async with door([]) as world:
        body = {"model": MODEL, "prompt": [1]}
        async with world.client.post(world.url + "/v1/completions", json=body) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "No engine of the pool is ready" in (await answer.json())["error"]["message"]
        (record,) = await world.finished()
        assert record.outcome == "ServiceUnavailableError"


async def test_engines_that_all_fail_are_named() -> None:
    async with TinyEngine(dies()) as dead, door([dead, worker("gone")]) as world:
        status, body = await world.post("/v1/completions", {"model": MODEL, "prompt": [1]})
        assert status == 503
        message = json.loads(body)["error"]["message"]
        assert "e0: " in message
        assert "gone: " in message
        assert len(world.noted.retries) == 2


async def test_a_request_id_unfit_for_a_header_is_replaced() -> None:
    headers = {"x-request-id": "has space"}
    async with door([]) as world, world.client.post(world.url + "/v1/embeddings", headers=headers) as answer:
        assert answer.headers["x-request-id"] != "has space"
        assert len(answer.headers["x-request-id"]) == 32


async def test_a_client_that_leaves_within_its_body_is_no_error() -> None:
    async with door([]) as world:
        host, port = world.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await world.post("/v1/completions", {"model": MODEL, "prompt": [1]})
        await until(lambda: len(world.noted.records) == 1)


@given(st.text(max_size=40))
def test_no_path_but_those_listed_reaches_an_engine(tail: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve("POST", "/x" + tail)
    assert refused.value.status in (403, 404)


def test_stored_responses_are_read_and_cancelled_by_id_only() -> None:
    assert stored_id("/v1/responses/resp_1") == stored_id("/v1/responses/resp_1/cancel") == "resp_1"
    for path in ("/v1/responses/", "/v1/responses/a/b", "/v1/responses//cancel"):
        with pytest.raises(Refusal):
            resolve("GET", path)


def test_a_stream_that_has_begun_gets_its_error_as_an_event() -> None:
    refusal = Refusal(502, "broken")
    assert refusal.stream_event(Dialect.OPENAI).endswith(b"data: [DONE]\n\n")
    for dialect in (Dialect.ANTHROPIC, Dialect.RESPONSES):
        event, data = refusal.stream_event(dialect).strip().split(b"\n")
        assert event == b"event: error"
        told = json.loads(data.removeprefix(b"data: "))
        assert told["type"] == "error"
        assert "broken" in (told.get("message") or told["error"]["message"])


def test_long_words_of_a_client_are_cut_in_messages() -> None:
    assert shortened("x" * 1000) == "x" * 200 + "…"
    assert dialect_of("/v1/messages/x") is Dialect.ANTHROPIC
    assert Refusal(418, "x").kind == "InternalServerError"

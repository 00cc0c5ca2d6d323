"""Requests without a prompt: models, tokenization, stored responses."""

import json
from dataclasses import replace

import pytest
from door_world import MODEL, door, worker
from kvpool_router.owners import ResponseOwners
from kvpool_router.requests.models import model_card
from kvpool_router.workers import WorkerId
from tiny_engine import TinyEngine, answers, dies, streams
from yarl import URL

STORED = {"id": "resp_1", "object": "response", "usage": {"input_tokens": 3, "output_tokens": 1}}


async def test_models_and_tokenization_are_answered_by_any_engine() -> None:
    one, other = (TinyEngine(answers({"data": []})) for _ in range(2))
    async with one, other, door([one, other]) as world:
        for _ in range(3):
            async with world.client.get(world.url + "/v1/models") as answer:
                assert await answer.json() == {"data": []}
        await world.post("/tokenize", {"prompt": "x"})
        assert {each.target for each in one.seen + other.seen} == {"/v1/models", "/tokenize"}
        assert (len(one.seen), len(other.seen)) == (2, 2)
        assert world.noted.records == []


LISTED = {"object": "list", "data": [{"id": MODEL, "object": "model"}, {"id": "org/lora é", "object": "model"}]}


@pytest.mark.parametrize(
    ("asked", "name"), [(MODEL, MODEL), ("org/lora é", "org/lora é"), ("org%2Flora%20%C3%A9", "org/lora é")]
)
async def test_one_model_is_an_entry_of_the_engines_list(asked: str, name: str) -> None:
    async with TinyEngine(answers(LISTED)) as engine, door([engine]) as world:
        async with world.client.get(URL(world.url + "/v1/models/" + asked, encoded="%" in asked)) as answer:
            assert answer.status == 200
            assert await answer.json() == {"id": name, "object": "model"}
        assert [each.target for each in engine.seen] == ["/v1/models"]


async def test_a_model_that_is_not_in_the_list_is_not_found_and_no_engine_is_no_list() -> None:
    async with TinyEngine(answers(LISTED)) as engine, door([engine]) as world:
        async with world.client.get(world.url + "/v1/models/nope") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["message"].startswith("The model `nope` does not exist.")
        async with world.client.get(world.url + "/v1/models/") as answer:
            assert answer.status == 404
        engine.respond = answers({"error": {"message": "no"}}, 401)
        async with world.client.get(world.url + "/v1/models/nope") as answer:
            assert (answer.status, await answer.json()) == (401, {"error": {"message": "no"}})
    for odd in (b"[]", b'{"data":[{}]}', b"text", b'{"data":[]}'):
        assert model_card(odd, MODEL) is None


async def test_token_counts_and_the_engines_version_are_forwarded() -> None:
    async with TinyEngine(answers({"input_tokens": 7})) as engine, door([engine]) as world:
        status, body = await world.post("/v1/messages/count_tokens?beta=true", {"model": MODEL, "messages": []})
        assert (status, json.loads(body)) == (200, {"input_tokens": 7})
        async with world.client.get(world.url + "/version") as answer:
            assert answer.status == 200
        assert [each.target for each in engine.seen] == ["/v1/messages/count_tokens?beta=true", "/version"]


async def test_what_a_browser_asks_first_is_answered_by_an_engine() -> None:
    allowed = {"access-control-allow-origin": "*"}
    asked = {"origin": "http://a.test", "access-control-request-method": "POST"}
    async with TinyEngine(answers({}, headers=allowed)) as engine, door([engine]) as world:
        for path in ("/v1/chat/completions", "/v1/models/tiny"):
            async with world.client.options(world.url + path, headers=asked) as answer:
                assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
        async with world.client.options(world.url + "/sleep", headers=asked) as answer:
            assert answer.status == 403
        assert [(each.method, each.headers["origin"]) for each in engine.seen] == [("OPTIONS", "http://a.test")] * 2


async def test_a_dead_engine_is_passed_over() -> None:
    async with TinyEngine(answers({"data": []})) as one, door([worker("gone"), one]) as world:
        for _ in range(2):
            async with world.client.get(world.url + "/v1/models") as answer:
                assert answer.status == 200
        assert world.noted.retries


async def test_a_dead_pool_is_named() -> None:
    dead = TinyEngine(dies())
    async with dead, door([dead]) as world, world.client.get(world.url + "/v1/models") as answer:
        assert answer.status == 503
        assert "e0: " in (await answer.json())["error"]["message"]


async def test_a_request_that_engines_fail_on_is_not_offered_to_all_of_them() -> None:
    dying = TinyEngine(dies())
    async with dying, door([worker(f"e{number}", dying.url) for number in range(5)]) as world:
        async with world.client.get(world.url + "/v1/models") as answer:
            assert answer.status == 503
        assert len(world.noted.retries) == 3
        assert (await world.post("/v1/completions", {"model": MODEL, "prompt": [1, 2]}))[0] == 503
        assert len(world.noted.retries) == 6


async def test_engines_that_cannot_even_be_reached_are_passed_over_until_one_answers() -> None:
    async with TinyEngine(answers({"data": []})) as alive:
        gone = [worker(f"gone{number}") for number in range(5)]
        async with door([*gone, worker("alive", alive.url)]) as world:
            async with world.client.get(world.url + "/v1/models") as answer:
                assert answer.status == 200
            assert (await world.post("/v1/completions", {"model": MODEL, "prompt": [1, 2]}))[0] == 200


async def test_a_stored_response_is_read_cancelled_and_continued_where_it_was_made() -> None:
    engines = [TinyEngine(answers(STORED)) for _ in range(3)]
    async with engines[0], engines[1], engines[2], door(engines) as world:
        await world.post("/v1/responses", {"model": MODEL, "input": "hi"})
        (maker,) = [each for each in engines if each.seen]
        for _ in range(3):
            async with world.client.get(world.url + "/v1/responses/resp_1") as answer:
                assert await answer.json() == STORED
            await world.post("/v1/responses/resp_1/cancel", {})
            body = {"model": MODEL, "input": "more", "previous_response_id": "resp_1"}
            assert (await world.post("/v1/responses", body))[0] == 200
        assert len(maker.seen) == 10


async def test_a_stream_of_a_stored_response_is_passed_on_too() -> None:
    events = [
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_2","usage":null}}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_2","usage":'
        b'{"input_tokens":32,"output_tokens":3,"input_tokens_details":{"cached_tokens":16}}}}\n\n',
    ]
    async with TinyEngine(streams(events)) as engine, door([engine]) as world:
        await world.post("/v1/responses", {"model": MODEL, "input": "hi", "stream": True})
        (record,) = await world.finished()
        assert record.usage == (32, 3, 16)
        async with world.client.get(world.url + "/v1/responses/resp_2?stream=true") as answer:
            assert await answer.read() == b"".join(events)


async def test_a_response_whose_engine_is_gone_or_unknown_is_not_found() -> None:
    async with TinyEngine(answers(STORED)) as engine, TinyEngine() as other, door([engine, other]) as world:
        world.deps.roster.replace(world.deps.roster.workers[:1])
        await world.post("/v1/responses", {"model": MODEL, "input": "hi"})
        world.deps.roster.replace((worker("e1", other.url),))
        continued = {"model": MODEL, "input": "more", "previous_response_id": "resp_1"}
        for path, why in (("/v1/responses/resp_1", "left the pool"), ("/v1/responses/resp_9", "not found")):
            async with world.client.get(world.url + path) as answer:
                assert answer.status == 404
                assert why in (await answer.json())["error"]["message"]
        status, body = await world.post("/v1/responses", continued)
        assert status == 404
        assert "takes no requests now" in json.loads(body)["error"]["message"]


async def test_a_draining_engine_still_reads_what_it_stored_and_a_dead_one_does_not() -> None:
    async with TinyEngine(answers(STORED)) as engine, door([engine]) as world:
        await world.post("/v1/responses", {"model": MODEL, "input": "hi"})
        (own,) = world.deps.roster.workers
        world.deps.roster.replace((replace(own, draining=True),))
        async with world.client.get(world.url + "/v1/responses/resp_1") as answer:
            assert answer.status == 200
        world.deps.roster.replace((replace(own, url="http://127.0.0.1:9"),))
        async with world.client.get(world.url + "/v1/responses/resp_1") as answer:
            assert answer.status == 404
            assert "cannot be asked" in (await answer.json())["error"]["message"]


def test_only_the_newest_owners_are_kept() -> None:
    owners = ResponseOwners(kept=2)
    for number in range(3):
        owners.learn(b'{"id": "resp_%d"}' % number, WorkerId("e", number))
    owners.learn(b'{"id": "chatcmpl-1"}', WorkerId("e", 9))
    assert owners.owner("resp_2") == ("e", 2)
    assert len(owners._owners) == 2

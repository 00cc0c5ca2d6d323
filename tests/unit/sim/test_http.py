"""The HTTP API on a real socket, beside answers recorded from vLLM 0.32.0."""

import asyncio
import json

import aiohttp
import pytest
from eventually import eventually
from prometheus_client.parser import text_string_to_metric_families
from sim_engine import ALL_FLAGS, sim_engine

USER = [{"role": "user", "content": "hello there"}]
IDS = list(range(10, 60))


@pytest.fixture
async def engine():
    async with sim_engine(*ALL_FLAGS) as found:
        yield found


def events(text: str) -> list:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


async def test_an_answers_id_ends_with_the_requests_own_except_for_responses(engine):
    prompt = {"model": "tiny", "max_tokens": 1}
    told = {"X-Request-Id": "mine"}
    chat = await engine.post("/v1/chat/completions", {**prompt, "messages": USER}, **told)
    text = await engine.post("/v1/completions", {**prompt, "prompt": "hello"}, **told)
    stored = await engine.post("/v1/responses", {"model": "tiny", "input": "hello", "max_output_tokens": 1}, **told)
    assert (chat["id"], text["id"]) == ("chatcmpl-mine", "cmpl-mine")
    assert stored["id"].startswith("resp_")
    assert "mine" not in stored["id"]


async def test_a_chat_has_the_shape_of_the_real_one(engine):
    body = {"model": "tiny", "messages": USER, "max_tokens": 3}
    answer = await engine.post("/v1/chat/completions", body)
    assert list(answer) == [
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
        *("prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"),
    ]
    choice = answer["choices"][0]
    assert list(choice) == [
        *("index", "message", "logprobs", "finish_reason", "stop_reason", "token_ids", "routed_experts"),
    ]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"].split()) == 3
    assert answer["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 0,
        "created_cache_tokens": 0,
        "multimodal_tokens": None,
    }


async def test_a_chat_stream_has_the_chunks_of_the_real_one(engine):
    text = await engine.stream("/v1/chat/completions", {"model": "tiny", "messages": USER, "max_tokens": 2})
    first, one, two, last, done = events(text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert list(first["usage"]) == ["prompt_tokens", "total_tokens", "completion_tokens", "completion_tokens_details"]
    assert list(one["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "token_ids"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in (first, one, two)] == [None, None, "length"]
    assert two["choices"][0]["stop_reason"] is None
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0, "created_cache_tokens": 0}
    assert done == "[DONE]"


async def test_a_completion_stream_has_the_chunks_of_the_real_one(engine):
    text = await engine.stream("/v1/completions", {"model": "tiny", "prompt": IDS, "max_tokens": 2})
    one, two, last, _ = events(text)
    assert list(one["choices"][0]) == [
        *("index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"),
    ]
    assert one["usage"] == {"prompt_tokens": 50, "total_tokens": 51, "completion_tokens": 1}
    assert two["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_usage_comes_only_where_it_is_asked_for_or_forced():
    async with sim_engine() as engine:
        body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
        plain = events(await engine.stream("/v1/completions", body))
        assert "usage" not in plain[0]
        assert plain[-1] == "[DONE]"
        assert len(plain) == 2
        asked = events(await engine.stream("/v1/completions", body | {"stream_options": {"include_usage": True}}))
        assert "usage" not in asked[0]
        assert asked[1]["usage"] == {"prompt_tokens": 50, "total_tokens": 51, "completion_tokens": 1}
        whole = await engine.post("/v1/completions", body)
        assert whole["usage"]["prompt_tokens_details"] is None


async def test_a_batch_answers_each_prompt_and_counts_all(engine):
    body = {"model": "tiny", "prompt": [IDS, IDS[:20]], "max_tokens": 2}
    answer = await engine.post("/v1/completions", body)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["prompt_tokens"] == 70
    assert answer["usage"]["completion_tokens"] == 4
    *chunks, last, _ = events(await engine.stream("/v1/completions", body))
    assert {chunk["choices"][0]["index"] for chunk in chunks} == {0, 1}
    assert last["usage"]["completion_tokens"] == 4
    texts = await engine.post("/v1/completions", {"model": "tiny", "prompt": ["one", "two"], "max_tokens": 1})
    assert len(texts["choices"]) == 2


async def test_messages_have_the_shape_of_the_real_ones(engine):
    body = {"model": "tiny", "max_tokens": 2, "system": "be brief", "messages": USER}
    answer = await engine.post("/v1/messages", body)
    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["cache_read_input_tokens"] == 0
    await engine.post("/v1/messages", body | {"system": [{"type": "text", "text": "be brief"}]})
    text = await engine.stream("/v1/messages", body)
    names = [line.removeprefix("event: ") for line in text.split("\n") if line.startswith("event: ")]
    assert names == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]


async def test_a_long_system_prompt_is_read_from_the_cache_the_second_time(engine):
    body = {"model": "tiny", "max_tokens": 1, "system": "many words " * 40, "messages": USER}
    first = await engine.post("/v1/messages", body)
    second = await engine.post("/v1/messages", body)
    read = second["usage"]["cache_read_input_tokens"]
    assert read
    assert read % 16 == 0
    assert second["usage"]["input_tokens"] == first["usage"]["input_tokens"]
    assert first["usage"]["cache_creation_input_tokens"] == read + second["usage"]["cache_creation_input_tokens"]


async def test_responses_have_the_shape_of_the_real_ones(engine):
    body = {"model": "tiny", "input": "hello", "instructions": "be brief", "max_output_tokens": 2}
    answer = await engine.post("/v1/responses", body)
    assert answer["status"] == "incomplete"
    assert answer["output"][0]["content"][0]["type"] == "output_text"
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] == 0
    listed = body | {
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    }
    again = await engine.post("/v1/responses", listed)
    assert again["usage"]["input_tokens"] == answer["usage"]["input_tokens"]
    found = events(await engine.stream("/v1/responses", body))
    assert [each["type"] for each in found] == [
        *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.output_text.delta", "response.output_text.done"),
        *("response.content_part.done", "response.output_item.done", "response.completed"),
    ]
    assert [each["sequence_number"] for each in found] == list(range(10))


async def test_a_repeated_prompt_is_cached_in_whole_blocks_and_a_salt_keeps_it_apart(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
    cached = [
        (await engine.post("/v1/completions", each))["usage"]["prompt_tokens_details"]["cached_tokens"]
        for each in (body, body, body | {"cache_salt": "x"}, body | {"prompt": IDS[:48]})
    ]
    assert cached == [0, 48, 0, 32]


async def test_an_answer_sent_back_is_cached_in_the_next_turn(engine):
    talk = [{"role": "user", "content": "tell me a story"}]
    first = await engine.post("/v1/chat/completions", {"model": "tiny", "messages": talk, "max_tokens": 80})
    reply = first["choices"][0]["message"]["content"]
    talk += [{"role": "assistant", "content": reply}, {"role": "user", "content": "go on"}]
    second = await engine.post("/v1/chat/completions", {"model": "tiny", "messages": talk, "max_tokens": 1})
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > first["usage"]["prompt_tokens"] + 48


async def test_without_a_limit_a_chat_ends_by_itself_unless_told_to_ignore_it(engine):
    body = {"model": "tiny", "messages": USER}
    answer = await engine.post("/v1/chat/completions", body)
    assert answer["choices"][0]["finish_reason"] == "stop"
    short = await engine.post("/v1/completions", {"model": "tiny", "prompt": "hello"})
    assert short["usage"]["completion_tokens"] == 16
    long = await engine.post("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 500, "ignore_eos": True})
    assert long["usage"]["completion_tokens"] == 500


async def test_tokens_are_told_as_the_engine_computes_them(engine):
    told = await engine.post("/tokenize", {"model": "tiny", "messages": USER})
    rendered = await engine.post("/v1/chat/completions/render", {"model": "tiny", "messages": USER})
    answer = await engine.post("/v1/chat/completions", {"model": "tiny", "messages": USER, "max_tokens": 1})
    assert told["tokens"] == rendered["token_ids"]
    assert told["count"] == answer["usage"]["prompt_tokens"]
    text = await engine.post("/tokenize", {"model": "tiny", "prompt": "hello there"})
    assert await engine.post("/detokenize", {"tokens": text["tokens"]}) == {"prompt": "hello there"}
    batch = await engine.post("/v1/completions/render", {"model": "tiny", "prompt": "hello there"})
    assert batch[0]["token_ids"] == text["tokens"]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    longer = await engine.post("/tokenize", {"model": "tiny", "messages": USER, "tools": tools})
    assert longer["count"] > told["count"]
    bare = await engine.post("/tokenize", {"model": "tiny", "messages": USER, "add_generation_prompt": False})
    assert bare["count"] < told["count"]


async def test_render_is_closed_unless_opened():
    async with sim_engine() as engine:
        refused = await engine.post("/v1/completions/render", {"prompt": "hello"}, status=403)
        assert refused["error"]["type"] == "PermissionDeniedError"
        assert "--enable-scale-out" in refused["error"]["message"]


REFUSED = [
    ("/v1/completions", {"model": "nope", "prompt": "x"}, 404, "NotFoundError", "does not exist. Valid aliases: tiny"),
    ("/v1/completions", {"model": "tiny", "prompt": ""}, 400, "BadRequestError", "must be provided and non-empty"),
    ("/v1/completions", {"model": "tiny"}, 400, "BadRequestError", "must be provided and non-empty"),
    ("/v1/completions", {"model": "tiny", "prompt": [10**6]}, 400, "BadRequestError", "is out of vocabulary"),
    ("/v1/completions", {"model": "tiny", "prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "at least 1"),
    ("/v1/completions", {"model": "tiny", "prompt": "x", "max_tokens": 10**7}, 400, "BadRequestError", "greater than"),
    ("/v1/completions", {"model": "tiny", "prompt": [5] * 131073}, 400, "BadRequestError", "maximum context length"),
    ("/v1/completions", {"model": "tiny", "prompt": 5}, 400, "Bad Request", "prompt"),
    ("/v1/completions", {"model": "tiny", "prompt": "x", "max_tokens": "y"}, 400, "Bad Request", "max_tokens"),
    ("/v1/chat/completions", {"model": "tiny", "messages": []}, 400, "BadRequestError", "at least one message"),
    ("/v1/chat/completions", {"model": "tiny"}, 400, "Bad Request", "body.messages"),
    ("/v1/chat/completions", {"model": "tiny", "messages": "x"}, 400, "Bad Request", "messages"),
    ("/v1/chat/completions", {"model": "tiny", "messages": [5]}, 400, "Bad Request", "messages"),
    ("/v1/chat/completions", {"model": "tiny", "messages": [{"content": "x"}]}, 400, "Bad Request", "role"),
    (
        "/v1/chat/completions",
        {"model": "tiny", "messages": [{"role": "user", "content": 5}]},
        400,
        "Bad Request",
        "content",
    ),
    ("/detokenize", {"tokens": "x"}, 400, "Bad Request", "tokens"),
    ("/detokenize", {"tokens": [-1]}, 400, "Bad Request", "tokens"),
    ("/v1/responses", {"model": "tiny"}, 400, "Bad Request", "body.input"),
    ("/sim/fault", {"kind": "earthquake"}, 400, "BadRequestError", "must be one of"),
]


@pytest.mark.parametrize(("path", "body", "status", "kind", "words"), REFUSED)
async def test_what_the_engine_refuses_has_the_shape_of_the_real_refusal(engine, path, body, status, kind, words):
    answer = await engine.post(path, body, status=status)
    assert list(answer["error"]) == ["message", "type", "param", "code"]
    assert (answer["error"]["type"], answer["error"]["code"]) == (kind, status)
    assert words in answer["error"]["message"] + str(answer["error"]["param"])


async def test_anthropics_clients_get_errors_in_their_shape(engine):
    body = {"model": "nope", "max_tokens": 1, "messages": USER}
    answer = await engine.post("/v1/messages", body, status=404)
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "NotFoundError"


@pytest.mark.parametrize("text", ["{", "[]", "5", "null"])
async def test_a_body_that_is_no_json_object_is_a_bad_request(engine, text):
    async with engine.http.post(engine.url + "/v1/completions", data=text) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "Bad Request"


async def test_it_tells_what_it_is(engine):
    models = await engine.get("/v1/models")
    assert models["data"][0]["id"] == "tiny"
    assert await engine.get("/load") == {"server_load": 0}
    assert await engine.get("/version") == {"version": "0.32.0"}
    assert await engine.get("/kv_event_sources") == {}
    assert await engine.post("/v1/load_lora_adapter", {}, status=404) == {"detail": "Not Found"}
    async with engine.http.get(engine.url + "/health") as answer:
        assert answer.status == 200


async def test_metrics_have_the_names_and_labels_of_the_real_ones(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 2}
    for _ in range(2):
        await engine.post("/v1/completions", body)
    async with engine.http.get(engine.url + "/metrics") as answer:
        families = {each.name: each for each in text_string_to_metric_families(await answer.text())}
    values = {sample.name: sample for each in families.values() for sample in each.samples}
    assert values["vllm:prefix_cache_queries_total"].value == 100
    assert values["vllm:prefix_cache_hits_total"].value == 48
    assert values["vllm:prompt_tokens_total"].labels == {"engine": "0", "model_name": "tiny"}
    assert values["vllm:cache_config_info"].labels["block_size"] == "16"
    finished = {sample.labels["finished_reason"]: sample.value for sample in families["vllm:request_success"].samples}
    assert finished == {"stop": 0, "length": 2, "abort": 0}
    stats = await engine.get("/sim/stats")
    assert stats["steps"] == 4
    assert stats["step_lateness_p99_ms"] is not None


async def test_a_client_that_leaves_ends_its_request():
    async with sim_engine(speed="1") as engine:
        body = {"model": "tiny", "prompt": IDS, "max_tokens": 100_000, "ignore_eos": True, "stream": True}
        answer = await engine.http.post(engine.url + "/v1/completions", json=body)
        await answer.content.readany()
        assert engine.drivers[0].core.running == 1
        answer.close()
        await eventually(lambda: engine.drivers[0].core.totals.finished["abort"] == 1)
        assert (await engine.get("/load")) == {"server_load": 0}


async def test_the_cache_is_reset_when_nobody_is_served(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
    await engine.post("/v1/completions", body)
    async with engine.http.post(engine.url + "/reset_prefix_cache") as answer:
        assert answer.status == 200
    again = await engine.post("/v1/completions", body)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_an_engine_that_sleeps_holds_what_is_asked_and_wakes_up_without_its_cache(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
    await engine.post("/v1/completions", body)
    async with engine.http.post(engine.url + "/sleep?level=1") as answer:
        assert (answer.status, await answer.text()) == (200, "")
    assert await engine.get("/is_sleeping") == {"is_sleeping": True}
    waiting = asyncio.create_task(engine.post("/v1/completions", body))
    await eventually(lambda: engine.drivers[0].in_flight)
    async with engine.http.post(engine.url + "/wake_up") as answer:
        assert answer.status == 200
    assert (await waiting)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert await engine.get("/is_sleeping") == {"is_sleeping": False}


async def test_each_rank_has_a_cache_of_its_own_and_is_found_by_its_number():
    config = '{"enable_kv_cache_events":true,"endpoint":"inproc://e","topic":"t"}'
    async with sim_engine(*ALL_FLAGS, "--data-parallel-size", "2", "--kv-events-config", config) as engine:
        body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
        rank = "X-data-parallel-rank"
        await engine.post("/v1/completions", body, **{rank: "1"})
        cached = [
            (await engine.post("/v1/completions", body, **{rank: each}))["usage"]["prompt_tokens_details"][
                "cached_tokens"
            ]
            for each in ("1", "0")
        ]
        assert cached == [48, 0]
        await engine.post("/v1/completions", body, status=400, **{rank: "7"})
        sources = await engine.get("/kv_event_sources")
        assert list(sources) == ["0", "1"]
        assert sources["0"]["topic"] == "t"


async def test_faults_reach_the_publisher(tmp_path):
    config = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"})
    async with sim_engine("--kv-events-config", config) as engine:
        publisher = engine.drivers[0].publisher
        assert publisher is not None
        await engine.post("/sim/fault", {"kind": "hang-publisher"})
        assert publisher.hung
        await engine.post("/sim/fault", {"kind": "hang-publisher", "on": False})
        await engine.post("/sim/fault", {"kind": "drop-events", "batches": 2})
        assert (publisher.hung, publisher.dropping) == (False, 2)
        await engine.post("/sim/fault", {"kind": "malformed-events"})
        await engine.post("/sim/fault", {"kind": "restart-sequence"})


async def test_many_streams_at_once_all_end(engine):
    async def one(number: int) -> int:
        body = {"model": "tiny", "prompt": [number + 10] * 40, "max_tokens": 5}
        return len(events(await engine.stream("/v1/completions", body)))

    assert set(await asyncio.gather(*map(one, range(50)))) == {7}


async def test_a_websocket_is_not_served(engine):
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await engine.http.ws_connect(engine.url + "/v1/realtime")


@pytest.mark.parametrize("method", ["DELETE", "HEAD", "OPTIONS", "PATCH", "PUT"])
async def test_a_method_that_the_engine_does_not_serve_is_405_and_an_unknown_path_404(engine, method):
    for path in ("/v1/chat/completions", "/v1/models", "/health", "/v1/responses/resp_1", "/reset_prefix_cache"):
        async with engine.http.request(method, engine.url + path) as answer:
            assert answer.status == 405, path
    async with engine.http.request(method, engine.url + "/nowhere") as answer:
        assert answer.status == 404


async def test_a_browsers_preflight_is_refused_as_vllm_refuses_it_without_allowed_origins(engine):
    asked = {"Origin": "http://page", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
    async with engine.http.options(engine.url + "/v1/chat/completions", headers=asked) as answer:
        assert (answer.status, await answer.text()) == (400, "Disallowed CORS origin")
        assert answer.headers["access-control-allow-headers"] == "x-a"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "access-control-allow-origin" not in answer.headers

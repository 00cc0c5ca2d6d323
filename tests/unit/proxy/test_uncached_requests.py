"""Requests for which an engine reads no cache are placed and audited so."""

import json

import pytest
from door_world import MODEL, door
from kvpool_router.requests.peek import peek
from tiny_engine import TinyEngine, answers


@pytest.mark.parametrize(
    ("path", "fields", "reads"),
    [
        ("/v1/completions", {}, True),
        ("/v1/completions", {"logprobs": 3}, True),
        ("/v1/completions", {"echo": True}, True),
        ("/v1/completions", {"echo": True, "logprobs": 0}, False),
        ("/v1/completions", {"prompt_logprobs": 0}, False),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}, True),
        ("/v1/chat/completions", {"prompt_logprobs": 1}, False),
    ],
)
def test_log_probabilities_of_the_prompt_need_all_of_it_computed(path, fields, reads):
    body = {"model": MODEL, "prompt": [1], "messages": [{"role": "user", "content": "a"}], **fields}
    assert peek(path, json.dumps(body).encode()).reads_cache is reads


async def test_such_a_request_is_predicted_to_find_nothing() -> None:
    prompt = {"model": MODEL, "prompt": list(range(40))}
    async with TinyEngine(answers({"choices": []})) as engine, door([engine]) as there:
        for fields in ({}, {}, {"prompt_logprobs": 1}):
            assert (await there.post("/v1/completions", prompt | fields))[0] == 200
        records = await there.finished(3)
        assert [record.predicted_cached_tokens for record in records] == [0, 40, 0]

"""examples/cpu-vllm.yaml with real vLLM: the whole path, from manifest to answers, in every API."""

import asyncio
import json
import shlex
import sys

import pytest
import yaml
from eventually import eventually
from real_engines import CHAT, EXAMPLE, FOLDER, MESSAGES, MODEL, RESPONSES, START_S, TEXT, cached_of, chat, ids
from up_process import clean_environment

LOAD = "example.kvpool.dev/load"
EXPECTED = "example.kvpool.dev/expect-hit-percent-at-least"

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(START_S + 30)]


async def test_the_pool_is_ready_and_both_engines_are_followed_exactly(pool):
    await eventually(pool.both_exact)
    conditions = {each.type: each.status for each in pool.up.folder.seen().pool.status.conditions}
    assert conditions["Ready"] == conditions["KVEventsFlowing"] == "True"


async def test_the_router_tokenizes_with_the_models_own_folder(pool):
    state = await pool.state()
    assert state.tokenizer == f"in process, from {FOLDER}"


async def test_the_engines_own_account_of_where_they_publish_confirms_the_wiring(pool):
    async def confirmed():
        return [each.wiring_confirmed for each in await pool.workers()] == [True, True]

    await eventually(confirmed)
    assert await pool.both_exact()
    for worker in await pool.workers():
        _, told = await pool.ask_engine_about(worker.url, "/kv_event_sources")
        assert f"kv@{worker.pod}@{MODEL}" in json.dumps(told)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat("Hello")),
        (TEXT, {"prompt": "Once upon a time", "max_tokens": 4}),
        (TEXT, {"prompt": ids(3, 40), "max_tokens": 4}),
        (TEXT, {"prompt": ["one prompt", "and another"], "max_tokens": 4}),
        (RESPONSES, {"input": "Hello", "max_output_tokens": 4}),
        (MESSAGES, chat("Hello")),
    ],
)
async def test_each_api_answers_plainly_and_as_a_stream(pool, path, body):
    status, answer = await pool.post(path, {"model": MODEL, **body})
    assert status == 200, answer
    assert answer["usage"]
    told, last = await pool.lines(path, body)
    assert told
    assert last == "[DONE]" or json.loads(last)["type"] in ("response.completed", "message_stop")
    assert [each.outcome for each in (await pool.decisions()).decisions[:2]] == ["ok", "ok"]


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat("Hi")), (TEXT, {"prompt": "Hi", "max_tokens": 4})])
async def test_the_last_chunk_with_usage_is_for_those_who_asked(pool, path, body):
    unasked, end = await pool.lines(path, body)
    assert end == "[DONE]"
    assert all(each["choices"] and "usage" not in each for each in unasked)
    asked, _ = await pool.lines(path, {**body, "stream_options": {"include_usage": True}})
    assert asked[-1]["choices"] == []
    assert all("usage" not in each for each in asked[:-1])
    assert cached_of(asked[-1]) == 0
    assert (await pool.newest()).cached_tokens == 0


async def test_what_vllm_refuses_reaches_the_client_as_vllm_says_it(pool):
    status, answer = await pool.post(TEXT, {"model": MODEL, "prompt": ids(9, 9000), "max_tokens": 4})
    assert (status, answer["error"]["code"]) == (400, 400)
    assert "8192" in answer["error"]["message"]
    status, answer = await pool.post(CHAT, {"model": "nope", **chat("Hello")})
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (404, "NotFoundError", 404)
    assert "nope" in answer["error"]["message"]


async def test_the_example_serves_its_load_with_the_hit_rate_that_it_promises(pool):
    told = yaml.safe_load(EXAMPLE.read_text())["metadata"]["annotations"]
    words = ("bench", *shlex.split(told[LOAD]), "--json", "--run-folder", str(pool.up.folder.path.parent))
    pipe = asyncio.subprocess.PIPE
    bench = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kvpool_cli.main", *words, stdout=pipe, stderr=pipe, env=clean_environment()
    )
    said, complained = await bench.communicate()
    assert bench.returncode == 0, complained.decode()
    found = json.loads(said.splitlines()[-1])
    assert found["errors"] == 0
    assert found["hit_percent"] >= int(told[EXPECTED])
    assert found["predicted_equals_cached_percent"] == 100

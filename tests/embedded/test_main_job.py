"""One manifest becomes a running cache-aware pool: what its clients see."""

import asyncio
import json
import sys

import pytest
import pytest_asyncio
from eventually import eventually
from up_process import MODEL, ids, manifest, ready, write

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY_LIMIT = 1 << 18


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main-job")
    file = write(folder / "pool.yaml", manifest(replicas=3, router={"maxBodyBytes": BODY_LIMIT}))
    async with ready(file, "--no-live") as found:
        yield found


async def test_it_answers_a_chat_and_a_completion(pool):
    status, chat = await pool.post(
        "/v1/chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5},
    )
    assert status == 200
    assert chat["choices"][0]["message"]["content"]
    completion = await pool.complete("Once upon a time", tokens=5)
    assert completion["usage"]["completion_tokens"] == 5


async def test_a_stream_ends_with_done(pool):
    said = await pool.stream("Once upon a time", 6)
    assert said.count("data: ") >= 6
    assert said.endswith("data: [DONE]\n\n")


async def test_a_repeated_prompt_is_answered_from_cache_and_was_predicted(pool):
    prompt = ids(1, 640)
    first = await pool.complete(prompt)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    await eventually(lambda: _predicts(pool))
    second = await pool.complete(prompt)
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 624
    newest = (await pool.decisions()).decisions[0]
    assert newest.predicted_cached_tokens == 624


async def _predicts(pool):
    return any(worker.blocks >= 40 for worker in (await pool.state()).workers)


async def test_every_engine_is_followed_exactly(pool):
    state = await pool.state()
    assert len(state.workers) == 3
    assert {(worker.events, worker.synced) for worker in state.workers} == {("EXACT", True)}


async def test_an_unknown_model_is_404_in_openais_shape(pool):
    status, answer = await pool.post("/v1/chat/completions", {"model": "nope", "messages": []})
    assert status == 404
    assert answer["error"]["code"] == 404
    assert "nope" in answer["error"]["message"]


async def test_a_body_over_the_limit_is_413_and_the_next_request_is_served(pool):
    status, answer = await pool.post("/v1/completions", {"model": MODEL, "prompt": "x" * 2 * BODY_LIMIT})
    assert status == 413
    assert answer["error"]["message"]
    assert await pool.complete("still here")


async def test_malformed_json_is_400(pool):
    async with pool.http.post(f"{pool.url}/v1/completions", data=b"{not json") as answer:
        assert answer.status == 400
        assert "error" in json.loads(await answer.read())


async def test_two_hundred_streams_at_once_all_end_well(pool):
    said = await asyncio.gather(*(pool.stream(ids(1000 + n, 200), 24) for n in range(200)))
    assert [text for text in said if not text.endswith("data: [DONE]\n\n") or '"error"' in text] == []


async def test_the_door_lists_its_model_and_says_it_is_ready(pool):
    async with pool.http.get(f"{pool.url}/v1/models") as answer:
        assert MODEL in [model["id"] for model in (await answer.json())["data"]]
    async with pool.http.get(f"{pool.url}/ready") as answer:
        assert answer.status == 200


async def test_status_from_another_terminal_says_ready_with_every_engine(pool):
    code, said = await _kvpool(pool, "status")
    assert code == 0, said
    assert said.count("EXACT") == 3
    assert "KVEventsFlowing" in said


async def test_bench_finds_the_pool_and_its_predictions_are_what_the_engines_count(pool):
    load = "--profile shared-prefix --groups 2 --prompts-per-group 3 --system-tokens 640 --question-tokens 64"
    code, said = await _kvpool(
        pool, "bench", *load.split(), *["--output-tokens", "4", "--rate", "20", "--seconds", "2", "--json"]
    )
    assert code == 0, said
    found = json.loads(said.strip().splitlines()[-1])
    assert (found["errors"], found["requests"]) == (0, found["predictions"])
    assert found["hit_percent"] > 50


async def _kvpool(pool, *words):
    command = (sys.executable, "-m", "kvpool_cli.main", *words, "--run-folder", str(pool.up.folder.path.parent))
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await child.communicate()
    return child.returncode, said.decode()

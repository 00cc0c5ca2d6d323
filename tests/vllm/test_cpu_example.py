"""examples/cpu-vllm.yaml with real vLLM: the whole path, from manifest to an answer out of cache."""

import os
from pathlib import Path

import pytest
import pytest_asyncio
from eventually import eventually
from kvpool_api.wire import EventState
from up_process import ids, ready

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cpu-vllm.yaml"
MODEL = "tiny-llama"
START_S = 300

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(START_S + 60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpu-vllm")
    file = folder / EXAMPLE.name
    file.write_text(EXAMPLE.read_text())
    words = ("--engine", "vllm", "--vllm-python", os.environ["KVPOOL_VLLM_PYTHON"], "--no-live")
    async with ready(file, *words, pool="cpu-vllm", within_s=START_S) as found:
        yield found


async def test_a_chat_is_answered_by_real_engines(pool):
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    status, answer = await pool.post("/v1/chat/completions", question)
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] >= 1


async def test_a_repeated_prompt_comes_from_cache_as_it_was_predicted(pool):
    prompt = ids(1, 640)
    first = await pool.complete(prompt, model=MODEL)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    await eventually(lambda: _holds(pool, 19))
    second = await pool.complete(prompt, model=MODEL)
    newest = (await pool.decisions()).decisions[0]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == newest.predicted_cached_tokens == 608


async def _holds(pool, blocks):
    return any(worker.blocks >= blocks for worker in (await pool.state()).workers)


async def test_both_engines_are_followed_exactly(pool):
    assert [worker.events for worker in (await pool.state()).workers] == [EventState.EXACT, EventState.EXACT]

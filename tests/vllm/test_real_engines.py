"""examples/cpu-vllm.yaml with real vLLM: the whole path, from manifest to answers out of cache, and what breaks.

Two engines start once for the module (about a minute on two cores); the last tests kill one, and end them all.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
from array import array
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from eventually import eventually
from kvpool_api.wire import EventState
from kvpool_router.requests.peek import peek
from kvpool_router.tokens import hf_impl
from up_process import clean_environment, ids, ready

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cpu-vllm.yaml"
FOLDER = Path("/var/tmp/kvpool/tiny-llama")
MODEL = "tiny-llama"
LOAD = "example.kvpool.dev/load"
EXPECTED = "example.kvpool.dev/expect-hit-percent-at-least"
BLOCK = 32
START_S = 240

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(START_S + 30)]

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
RULES = "You route requests to engines. Prefer the engine that holds the longest prefix; be brief and exact. " * 24
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": 'Name, e.g. "Zürich" & <others>'}},
    "required": ["city"],
}
TURNS = [
    {"role": "system", "content": RULES},
    {"role": "user", "content": "Wie heißt 北京 auf Deutsch? 🙂"},
    {"role": "assistant", "content": "Peking.\n\n  - naïve façade —"},
    {"role": "user", "content": "def f(x):\n    return x  # <|im_end|> stays text?\t"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    python = os.environ.get("KVPOOL_VLLM_PYTHON")
    assert python, "KVPOOL_VLLM_PYTHON is not set: run `make test RING=vllm`"
    file = tmp_path_factory.mktemp("cpu-vllm") / EXAMPLE.name
    file.write_text(EXAMPLE.read_text())
    words = ("--engine", "vllm", "--vllm-python", python, "--no-live")
    async with ready(file, *words, pool="cpu-vllm", within_s=START_S) as found:
        yield found


async def workers(pool):
    return (await pool.state()).workers


async def newest(pool):
    return (await pool.decisions()).decisions[0]


async def both_exact(pool):
    found = await workers(pool)
    return len(found) == 2 and all(each.ready and each.synced and each.events == EventState.EXACT for each in found)


async def caught_up(pool):
    """The map stands still and no request is under way: what the engines have announced so far is in it."""
    before = [(each.in_flight, each.last_sequence) for each in await workers(pool)]
    await asyncio.sleep(0.1)
    return before == [(0, each.last_sequence) for each in await workers(pool)]


async def lines(pool, path, body):
    """The data lines of a stream, and its last one."""
    body = {"model": MODEL, "stream": True, **body}
    async with pool.http.post(f"{pool.url}{path}", json=body) as answer:
        assert answer.status == 200, await answer.text()
        text = (await answer.read()).decode()
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"], data[-1]


def chat(text, **more):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}


def cached_of(answer):
    """Cached prompt tokens in whichever of the four shapes."""
    usage = answer["usage"]
    if "prompt_tokens" in usage:
        return usage["prompt_tokens_details"]["cached_tokens"]
    return usage["cache_read_input_tokens"] if "cache_read_input_tokens" in usage else _of_responses(usage)


def _of_responses(usage):
    return usage["input_tokens_details"]["cached_tokens"]


async def test_the_pool_is_ready_and_both_engines_are_followed_exactly(pool):
    await eventually(lambda: both_exact(pool))
    conditions = {each.type: each.status for each in pool.up.folder.seen().pool.status.conditions}
    assert conditions["Ready"] == conditions["KVEventsFlowing"] == "True"


async def test_the_router_tokenizes_with_the_models_own_folder(pool):
    state = await pool.state()
    assert state.tokenizer == f"in process, from {FOLDER}"


async def test_the_engines_confirm_the_wiring_that_the_operator_gave_them(pool):
    for worker in await workers(pool):
        async with pool.http.get(f"{worker.url}/kv_event_sources") as answer:
            told = json.dumps(await answer.json())
        assert f"kv@{worker.pod}@{MODEL}" in told


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
    told, last = await lines(pool, path, body)
    assert told
    assert last == "[DONE]" or json.loads(last)["type"] in ("response.completed", "message_stop")
    assert [each.outcome for each in (await pool.decisions()).decisions[:2]] == ["ok", "ok"]


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat("Hi")), (TEXT, {"prompt": "Hi", "max_tokens": 4})])
async def test_the_last_chunk_with_usage_is_for_those_who_asked(pool, path, body):
    unasked, end = await lines(pool, path, body)
    assert end == "[DONE]"
    assert all(each["choices"] and "usage" not in each for each in unasked)
    asked, _ = await lines(pool, path, {**body, "stream_options": {"include_usage": True}})
    assert asked[-1]["choices"] == []
    assert all("usage" not in each for each in asked[:-1])
    assert cached_of(asked[-1]) == 0
    assert (await newest(pool)).cached_tokens == 0


async def test_what_vllm_refuses_reaches_the_client_as_vllm_says_it(pool):
    status, answer = await pool.post(TEXT, {"model": MODEL, "prompt": ids(9, 9000), "max_tokens": 4})
    assert (status, answer["error"]["code"]) == (400, 400)
    assert "8192" in answer["error"]["message"]
    status, answer = await pool.post(CHAT, {"model": "nope", **chat("Hello")})
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (404, "NotFoundError", 404)
    assert "nope" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": TURNS[:2], "max_tokens": 4}),
        (TEXT, {"prompt": "A prompt as text. " * 60, "max_tokens": 4}),
        (TEXT, {"prompt": ids(11, 640), "max_tokens": 4}),
        (RESPONSES, {"instructions": f"Responses. {RULES}", "input": "Hello", "max_output_tokens": 4}),
        (MESSAGES, {"system": f"Messages. {RULES}", **chat("Hello")}),
    ],
)
async def test_a_repeated_prompt_goes_to_the_engine_that_holds_it_and_comes_from_its_cache(pool, path, body):
    _, first = await pool.post(path, {"model": MODEL, **body})
    before = await newest(pool)
    await eventually(lambda: caught_up(pool))
    _, second = await pool.post(path, {"model": MODEL, **body})
    after = await newest(pool)
    assert cached_of(first) == 0
    assert after.pod == before.pod
    assert cached_of(second) == after.cached_tokens == after.predicted_cached_tokens
    assert after.cached_tokens == (after.prompt_tokens - 1) // BLOCK * BLOCK > 0


def mixed_batch():
    """Requests of all four APIs, in groups that share a beginning, streams among them, some of them repeated."""
    systems = [f"Tenant {number}. {RULES}" for number in range(3)]
    shared = [ids(100 + number, 480) for number in range(3)]
    once = [
        *((CHAT, {"messages": [{"role": "system", "content": s}, *TURNS[1:]], "max_tokens": 3}) for s in systems),
        *((CHAT, {"messages": [{"role": "system", "content": s}, TURNS[1]], "max_tokens": 3}) for s in systems),
        *((MESSAGES, {"system": s, **chat("Which engine?")}) for s in systems),
        *((RESPONSES, {"instructions": s, "input": "Why that one?", "max_output_tokens": 3}) for s in systems),
        *((TEXT, {"prompt": s + "and so", "max_tokens": 3}) for s in systems),
        *((TEXT, {"prompt": [*p, *ids(200 + n, 90)], "max_tokens": 3}) for n, p in enumerate(shared * 3)),
    ]
    return [(path, {"model": MODEL, "stream": bool(n % 3 == 0), **body}) for n, (path, body) in enumerate(once * 2)]


async def send(pool, path, body):
    async with pool.http.post(f"{pool.url}{path}", json=body) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()


async def judged(pool, batch):
    """The decisions about a batch that has ended."""
    await eventually(lambda: caught_up(pool))
    return (await pool.decisions()).decisions[: len(batch)]


def mispredicted(decisions):
    return [each for each in decisions if each.predicted_cached_tokens != each.cached_tokens]


async def test_what_the_router_predicts_is_what_the_engines_find_in_their_caches(pool):
    batch = mixed_batch()
    for path, body in batch:
        await send(pool, path, body)
    decisions = await judged(pool, batch)
    assert mispredicted(decisions) == []
    assert sum(each.cached_tokens for each in decisions) > 0.6 * sum(each.prompt_tokens for each in decisions)


async def test_requests_at_the_same_time_spread_and_are_predicted_too(pool):
    """Those with a new prefix in common find what the first of them computes in the very same step of the engine."""
    batch = [text([*ids(300 + n % 6, 320), *ids(n, 64)]) for n in range(24)]
    await asyncio.gather(*(send(pool, path, body) for path, body in batch))
    decisions = await judged(pool, batch)
    assert mispredicted(decisions) == []
    assert len({each.pod for each in decisions}) == 2


def text(prompt):
    return TEXT, {"model": MODEL, "prompt": prompt, "max_tokens": 4}


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


FUNCTION = {"name": "weather", "description": "Tells the weather", "parameters": WEATHER}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
WITH_CALL = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear"}'},
]
BODIES = [
    (CHAT, chat("Hello")),
    (CHAT, chat("")),
    (CHAT, chat("  two   spaces, a\ttab, \r\n and 北京 🙂 ﷺ é é")),
    (CHAT, {"messages": TURNS}),
    (CHAT, {"messages": TURNS[1:]}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": a} for a in ("one", "two")]}]}),
    (CHAT, {"messages": [*TURNS[:2], {"role": "developer", "content": "Be exact."}, TURNS[3]]}),
    (CHAT, {"messages": TURNS[:3], "add_generation_prompt": False, "continue_final_message": True}),
    (CHAT, chat("Weather?", tools=[{"type": "function", "function": FUNCTION}], tool_choice="none")),
    (CHAT, {"messages": WITH_CALL, "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "none"}),
    (TEXT, {"prompt": "Hello"}),
    (TEXT, {"prompt": RULES + " 北京 🙂 <|im_start|>user\nhi<|im_end|>"}),
    (TEXT, {"prompt": ids(1, 70)}),
    (TEXT, {"prompt": ["one", "two  three"]}),
    (TEXT, {"prompt": "bare", "add_special_tokens": False}),
    (MESSAGES, chat("Hello")),
    (MESSAGES, {"system": RULES, "messages": TURNS[1:], "max_tokens": 4}),
    (MESSAGES, {"system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], **chat("naïve 北京")}),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a part"}]}], "max_tokens": 4}),
    (RESPONSES, {"input": "Hello"}),
    (RESPONSES, {"instructions": RULES, "input": TURNS[1:]}),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": "naïve 北京 🙂"}]}]}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_our_token_ids_are_those_of_the_engine(pool, path, body):
    tokenizer = hf_impl.load(FOLDER)
    body = {"model": MODEL, **body}
    ours = [await tokenizer.encode(prompt) for prompt in peek(path, json.dumps(body).encode()).prompts]
    tokenizer.close()
    url = (await workers(pool))[0].url
    async with pool.http.post(f"{url}{path}/render", json=body) as answer:
        rendered = await answer.json()
        assert answer.status == 200, rendered
    theirs = [each["token_ids"] for each in (rendered if isinstance(rendered, list) else [rendered])]
    assert [array("I", each).tolist() for each in ours] == theirs


async def test_a_killed_engine_ends_whole_its_work_goes_elsewhere_and_it_comes_back_exact(pool):
    """Only the server process is killed: vLLM would leave the process behind it alive, which holds the weights."""
    prompt = ids(21, 640)
    await pool.complete(prompt, model=MODEL)
    pod = (await newest(pool)).pod
    await eventually(lambda: caught_up(pool))
    server, *rest = sorted(pool.up.pids_of(pod))
    assert rest
    os.kill(server, signal.SIGKILL)
    await eventually(lambda: not {server, *rest} & set(pool.up.processes()), within_s=10)

    await pool.complete(prompt, model=MODEL)
    elsewhere = await newest(pool)
    assert elsewhere.pod != pod
    assert elsewhere.predicted_cached_tokens == elsewhere.cached_tokens == 0

    await eventually(lambda: both_exact(pool), within_s=START_S)
    batch = [text(ids(400 + n, 320)) for n in range(16)]
    for _ in range(2):
        await asyncio.gather(*(send(pool, path, body) for path, body in batch))
        decisions = await judged(pool, batch)
    assert mispredicted(decisions) == []
    assert pod in {each.pod for each in decisions if each.cached_tokens}


async def test_ctrl_c_leaves_no_process(pool):
    assert len(pool.up.processes()) >= 7, "a router, and two engines of several processes each"
    assert await pool.up.end(signal.SIGINT, within_s=40) == 130
    assert pool.up.processes() == []
    assert "Traceback" not in pool.up.said()

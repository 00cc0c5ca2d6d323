"""The router and the simulated engine read the same tokens out of a body, so what is foretold is what is found.

They share no code: each converts messages and tools for the chat template on its own.
"""

import asyncio
import json

import msgspec
import pytest
import zmq
import zmq.asyncio
from door_world import worker
from eventually import eventually
from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.events.wire import decode
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.loading import LoadingTokenizer
from kvpool_router.requests.peek import peek
from kvpool_router.tokens.canary import AGREES, Canary
from kvpool_router.tokens.engine_ids import EngineIds
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.hf_impl import load
from kvpool_router.workers import WorkerId
from kvpool_sim import tokenizer_path
from kvpool_sim.asks import Reader
from sim_engine import ALL_FLAGS, VOCABULARY, settings, sim_engine

CALLS_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
APIS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
}
WORKER = WorkerId("engine", 0)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "description": "Zürich <b> & 'co'"}}}
TOOL = {"type": "function", "function": {"parameters": PARAMETERS, "name": "weather", "description": "d"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich", "n": 1.0}'}}
SYSTEM = {"role": "system", "content": "You are the pool's agent. " * 20}
AGENT = [
    SYSTEM,
    {"role": "user", "content": "how is the weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "12"}, {"type": "text", "text": "C"}]},
    {"role": "user", "content": [{"type": "text", "text": "thanks"}, {"type": "text", "text": "and now?"}]},
]
BLOCKS = [
    {"role": "user", "content": "how is the weather? " * 12},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Zürich"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "12 C"}]},
]
ITEMS = [
    {"role": "user", "content": "how is the weather? " * 12},
    {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city": "Zürich"}'},
    {"type": "function_call_output", "call_id": "c", "output": "12 C"},
]
ANTHROPIC_TOOL = {"name": "weather", "description": "d", "input_schema": {"properties": {}}}
RESPONSES_TOOL = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
UNFINISHED = [*AGENT[:2], {"role": "assistant", "content": "It is  "}]
CONTINUED = {"messages": UNFINISHED, "continue_final_message": True, "add_generation_prompt": False}
BODIES = {
    "a chat": ("/v1/chat/completions", {"messages": AGENT[:2]}),
    "tools": ("/v1/chat/completions", {"messages": AGENT[:2], "tools": [TOOL]}),
    "tool calls and their results": ("/v1/chat/completions", {"messages": AGENT, "tools": [TOOL]}),
    "tools that may not be called": (
        "/v1/chat/completions",
        {"messages": AGENT, "tools": [TOOL], "tool_choice": "none"},
    ),
    "a developer": ("/v1/chat/completions", {"messages": [*AGENT, {"role": "developer", "content": "be brief"}]}),
    "an unfinished answer": ("/v1/chat/completions", CONTINUED),
    "no new answer": ("/v1/chat/completions", {"messages": AGENT, "add_generation_prompt": False}),
    "the template's own variables": (
        "/v1/chat/completions",
        {"messages": AGENT, "chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"},
    ),
    "blocks": ("/v1/messages", {"messages": BLOCKS, "max_tokens": 5, "system": [{"type": "text", "text": "be brief"}]}),
    "blocks and tools": ("/v1/messages", {"messages": BLOCKS, "max_tokens": 5, "tools": [ANTHROPIC_TOOL]}),
    "items": ("/v1/responses", {"input": ITEMS, "instructions": "be brief"}),
    "items and tools": ("/v1/responses", {"input": ITEMS, "tools": [RESPONSES_TOOL]}),
    "text": ("/v1/completions", {"prompt": "how is the weather? " * 30}),
    "ids": ("/v1/completions", {"prompt": list(range(10, 90))}),
}


@pytest.fixture(scope="module")
def tokenizer():
    found = load(tokenizer_path())
    yield found
    found.close()


def routers_tokens(tokenizer, path, body):
    (prompt,) = peek(path, json.dumps(body).encode()).prompts
    return asyncio.run(tokenizer.encode(prompt))


def engines_tokens(path, body):
    reader = Reader(settings(*CALLS_TOOLS), VOCABULARY)
    return reader.rendered(APIS[path], body)[1][0].tobytes()


@pytest.mark.parametrize("name", BODIES)
def test_router_and_engine_read_the_same_tokens(tokenizer, name):
    path, body = BODIES[name]
    body = {"model": "tiny", **body}
    assert engines_tokens(path, body) == routers_tokens(tokenizer, path, body)


async def test_a_router_that_changes_from_asking_its_engine_to_the_models_files_goes_on_with_the_same_ids(tokenizer):
    bodies = [(path, {"model": "tiny", **body}) for path, body in BODIES.values()]
    prompts = [peek(path, json.dumps(body).encode()).prompts[0] for path, body in bodies]
    async with sim_engine(*ALL_FLAGS, *CALLS_TOOLS) as engine:
        changing = LoadingTokenizer(
            EngineTokenizer(EngineIds(engine.http), lambda: engine.url, "the hub is being asked")
        )
        asked = [await changing.encode(prompt) for prompt in prompts]

        async def files():
            yield tokenizer

        await changing.follow(files())
    assert [await changing.encode(prompt) for prompt in prompts] == asked


async def test_the_canary_finds_that_router_and_engine_agree(tokenizer):
    async with sim_engine(*ALL_FLAGS) as engine:
        canary = Canary(EngineIds(engine.http))
        one = worker("engine", engine.url)
        canary.use(tokenizer)
        canary.follow((one,))
        await eventually(lambda: canary.verdict(one) == AGREES)
        await canary.close()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
CONTENTS = TEXTS | st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=3)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=2))
ARGUMENTS = st.dictionaries(TEXTS, VALUES, max_size=2).map(json.dumps) | TEXTS
CALLED = st.builds(
    lambda name, given: {"id": "c", "type": "function", "function": {"name": name, "arguments": given}},
    TEXTS,
    ARGUMENTS,
)
MESSAGES = st.one_of(
    st.builds(lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "system"]), CONTENTS),
    st.builds(lambda content: {"role": "developer", "content": content}, CONTENTS),
    st.builds(lambda content: {"role": "tool", "tool_call_id": "c", "content": content}, CONTENTS),
    st.builds(
        lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
        st.none() | CONTENTS,
        st.lists(CALLED, max_size=2),
    ),
)
TOOLS = st.builds(
    lambda name, parameters: {"type": "function", "function": {"name": name, "parameters": parameters}},
    TEXTS,
    st.none() | st.dictionaries(TEXTS, VALUES, max_size=2),
)


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.none() | st.lists(TOOLS, min_size=1, max_size=2))
def test_any_conversation_is_read_alike(tokenizer, messages, tools):
    body = {"messages": messages} | ({} if tools is None else {"tools": tools})
    path = "/v1/chat/completions"
    assert engines_tokens(path, body) == routers_tokens(tokenizer, path, body)


async def test_what_the_router_foretells_of_an_agents_turns_is_what_the_engine_finds_cached(tmp_path, tokenizer):
    config = json.dumps({"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"})
    cache = CacheMap(block_tokens=16, prediction_ttl_s=60.0, history_tokens=None)
    context = zmq.asyncio.Context()
    async with sim_engine(*ALL_FLAGS, *CALLS_TOOLS, "--kv-events-config", config) as engine:
        sub = context.socket(zmq.SUB)
        sub.subscribe(b"")
        sub.connect(f"ipc://{tmp_path}/e")
        publisher = engine.drivers[0].publisher

        async def heard():
            publisher.publish_raw(msgspec.msgpack.encode([0.0, []]))
            return await sub.poll(50)

        await eventually(heard)
        found = []
        for name, (path, body) in BODIES.items():
            limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
            for _ in range(2):
                while await sub.poll(50):
                    cache.apply(WORKER, decode((await sub.recv_multipart())[2]).events)
                sent = {"model": "tiny", **body, limit: 2}
                (prompt,) = peek(path, json.dumps(sent).encode()).prompts
                held = cache.match(await tokenizer.encode(prompt), peek(path, json.dumps(sent).encode()).namespace, 0.0)
                foretold = held[WORKER].cached_tokens if WORKER in held else 0
                found.append((name, foretold, cached(await engine.post(path, sent))))
        sub.close(linger=0)
    context.destroy(linger=0)
    assert [each for each in found if each[1] != each[2]] == []
    assert sum(each[2] for each in found[1::2]) > 1000


def cached(answer):
    usage = answer["usage"]
    if "cache_read_input_tokens" in usage:
        return usage["cache_read_input_tokens"]
    return (usage.get("prompt_tokens_details") or usage["input_tokens_details"])["cached_tokens"]

"""Our token ids are those of the engine, for requests of every API."""

import json
from array import array
from contextlib import closing

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kvpool_router.requests.peek import peek
from kvpool_router.tokens import hf_impl
from real_engines import CHAT, FOLDER, MESSAGES, MODEL, RESPONSES, RULES, START_S, TEXT, TURNS, chat, ids

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(START_S + 30)]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": 'Name, e.g. "Zürich" & <others>'}},
    "required": ["city"],
}
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
    with closing(hf_impl.load(FOLDER)) as tokenizer:
        assert await ours(tokenizer, path, body) == await theirs(pool, path, body)


async def ours(tokenizer, path, body):
    prompts = peek(path, json.dumps({"model": MODEL, **body}).encode()).prompts
    return [array("I", await tokenizer.encode(prompt)).tolist() for prompt in prompts]


async def theirs(pool, path, body):
    url = (await pool.workers())[0].url
    status, rendered = await pool.ask_engine(url, f"{path}/render", {"model": MODEL, **body})
    assert status == 200, rendered
    return [each["token_ids"] for each in (rendered if isinstance(rendered, list) else [rendered])]


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
spoken = st.one_of(
    words, st.sampled_from(["", " ", "\n\n", "<|im_end|>", "<|im_start|>system\n", "{{ x }}", "北京 🙂 é"])
)
parts = st.lists(spoken.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=3)
calls = st.builds(
    lambda text: {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": text})},
    },
    words,
)
asked = st.builds(lambda content: [{"role": "user", "content": content}], spoken | parts)
answered = st.builds(lambda content: [{"role": "assistant", "content": content}], spoken)
called = st.builds(
    lambda call, content, told: [
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": told},
    ],
    calls,
    st.none() | spoken,
    spoken,
)
systems = st.builds(lambda content: [{"role": "system", "content": content}], spoken)
tools = st.lists(
    st.builds(
        lambda told, field: {
            "type": "function",
            "function": {"name": "weather", "description": told, "parameters": {"type": "object", "properties": field}},
        },
        spoken,
        st.dictionaries(words, st.just({"type": "string"}), max_size=2),
    ),
    max_size=2,
)


@st.composite
def conversations(draw):
    turns = [*draw(st.just([]) | systems), *draw(asked)]
    for turn in draw(st.lists(st.one_of(answered, called), max_size=3)):
        turns += [*turn, *draw(asked)]
    offered = draw(tools)
    return {"messages": turns, "max_tokens": 4} | ({"tools": offered, "tool_choice": "none"} if offered else {})


def generated(strategy, count):
    """Examples, drawn at once: to ask an engine about them takes a loop that runs already."""
    found = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate])
    @given(strategy)
    def draw(example):
        found.append(example)

    draw()
    return found


async def test_our_token_ids_are_those_of_the_engine_for_any_conversation(pool):
    with closing(hf_impl.load(FOLDER)) as tokenizer:
        for body in generated(conversations(), 150):
            assert await ours(tokenizer, CHAT, body) == await theirs(pool, CHAT, body), body


async def test_our_token_ids_are_those_of_the_engine_for_any_text(pool):
    with closing(hf_impl.load(FOLDER)) as tokenizer:
        for prompt in generated(spoken.filter(bool), 100):
            body = {"prompt": prompt, "max_tokens": 4}
            assert await ours(tokenizer, TEXT, body) == await theirs(pool, TEXT, body), body

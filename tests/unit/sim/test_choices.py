"""What one asks of an answer's choices: how many, where they end, what is told beside their text."""

import json
import re

import pytest
from sim_engine import ALL_FLAGS, sim_engine

IDS = list(range(10, 110))
USER = [{"role": "user", "content": "hello there"}]
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
async def engine():
    async with sim_engine(*ALL_FLAGS) as found:
        yield found


def chunks(text):
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def texts(answer):
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer["choices"]]


def streamed(text):
    """The text of each choice."""
    found = {}
    for chunk in chunks(text):
        for choice in chunk["choices"]:
            told = choice.get("text", choice.get("delta", {}).get("content"))
            found[choice["index"]] = found.get(choice["index"], "") + told
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, {"messages": USER}), (COMPLETION, {"prompt": IDS})])
async def test_several_choices_differ_and_are_the_same_again_as_a_stream(engine, path, prompt):
    body = {"model": "tiny", **prompt, "n": 3, "max_tokens": 5}
    whole = await engine.post(path, body)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len(set(texts(whole))) == 3
    assert whole["usage"]["completion_tokens"] == 15
    assert streamed(await engine.stream(path, body)) == texts(whole)
    alone = await engine.post(path, {**body, "n": 1})
    assert texts(alone) == texts(whole)[:1]


async def test_choices_are_numbered_prompt_by_prompt_and_prompts_are_counted_once(engine):
    body = {"model": "tiny", "prompt": [IDS, IDS[:20]], "n": 2, "max_tokens": 3}
    whole = await engine.post(COMPLETION, body)
    assert whole["usage"]["prompt_tokens"] == 120
    second = await engine.post(COMPLETION, {**body, "prompt": IDS[:20]})
    assert texts(whole)[2:] == texts(second)
    told = chunks(await engine.stream(COMPLETION, body))
    prompts = {choice["index"]: chunk["usage"]["prompt_tokens"] for chunk in told[:-1] for choice in chunk["choices"]}
    assert prompts == {0: 100, 1: 100, 2: 20, 3: 20}


async def test_of_a_batch_one_prompts_cached_tokens_are_told(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 1}
    await engine.post(COMPLETION, body)
    other = list(range(500, 600))
    for prompts, whole, stream in (([IDS, other], 0, 96), ([[*other, 7], IDS], 96, 96)):
        await engine.post("/reset_prefix_cache", {})
        await engine.post(COMPLETION, body)
        asked = {**body, "prompt": prompts}
        answer = await engine.post(COMPLETION, asked)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == whole
        last = chunks(await engine.stream(COMPLETION, asked))[-1]
        assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == stream


@pytest.mark.parametrize("streams", [False, True])
async def test_a_stop_string_ends_the_answer_before_it(engine, streams):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 40, "ignore_eos": True}
    (text,) = texts(await engine.post(COMPLETION, body))
    stop = text[30:34]
    asked = {**body, "stop": ["never said", stop]}
    answer = await engine.post(COMPLETION, asked)
    expected = text[: text.index(stop)]
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (expected, "stop", stop)
    assert answer["usage"]["completion_tokens"] < 40
    told = await engine.stream(COMPLETION, asked)
    assert streamed(told) == [expected]
    assert chunks(told)[-2]["choices"][0]["stop_reason"] == stop
    kept = await engine.post(COMPLETION, {**asked, "include_stop_str_in_output": True})
    assert texts(kept) == [expected + stop]


async def test_a_stop_token_ends_the_answer_and_is_told_by_its_id(engine):
    body = {"model": "tiny", "messages": USER, "max_tokens": 9, "return_token_ids": True}
    ids = (await engine.post(CHAT, body))["choices"][0]["token_ids"]
    answer = await engine.post(CHAT, {**body, "stop_token_ids": [ids[3]]})
    choice = answer["choices"][0]
    assert (choice["token_ids"], choice["finish_reason"], choice["stop_reason"]) == (ids[:4], "stop", ids[3])
    later = await engine.post(CHAT, {**body, "stop_token_ids": [ids[3]], "min_tokens": 5})
    assert later["choices"][0]["finish_reason"] == "length"


async def test_anthropics_clients_are_told_the_sequence_that_was_found(engine):
    body = {"model": "tiny", "messages": USER, "max_tokens": 30}
    text = (await engine.post("/v1/messages", body))["content"][0]["text"]
    asked = {**body, "stop_sequences": [text[20:24]]}
    answer = await engine.post("/v1/messages", asked)
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", text[20:24])
    told = await engine.stream("/v1/messages", asked)
    assert '"text":""}' not in told.replace('"content_block":{"type":"text","text":""}', "")
    assert f'"stop_sequence":{json.dumps(text[20:24])}' in told


@pytest.mark.parametrize("streams", [False, True])
async def test_a_completion_repeats_its_prompt_where_asked(engine, streams):
    body = {"model": "tiny", "prompt": "hello there", "max_tokens": 2}
    (plain,) = texts(await engine.post(COMPLETION, body))

    async def asked(**more):
        changed = {**body, "echo": True, **more}
        if streams:
            return streamed(await engine.stream(COMPLETION, changed))
        return texts(await engine.post(COMPLETION, changed))

    assert await asked() == ["hello there" + plain]
    assert await asked(max_tokens=0) == ["hello there"]
    assert await asked(return_token_ids=True) == [plain]


async def test_token_ids_are_told_where_asked(engine):
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 2, "return_token_ids": True}
    choice = (await engine.post(COMPLETION, body))["choices"][0]
    one, two, _ = chunks(await engine.stream(COMPLETION, body))
    assert choice["prompt_token_ids"] == one["choices"][0]["prompt_token_ids"] == IDS
    assert two["choices"][0]["prompt_token_ids"] is None
    assert choice["token_ids"] == one["choices"][0]["token_ids"] + two["choices"][0]["token_ids"]


async def test_log_probabilities_have_the_shapes_of_the_real_ones(engine):
    body = {"model": "tiny", "messages": USER, "max_tokens": 2, "logprobs": True, "top_logprobs": 2}
    choice = (await engine.post(CHAT, body))["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == choice["message"]["content"]
    assert list(content[0]) == ["token", "logprob", "bytes", "top_logprobs"]
    assert [len(each["top_logprobs"]) for each in content] == [2, 2]
    assert chunks(await engine.stream(CHAT, body))[1]["choices"][0]["logprobs"]["content"] == content[:1]
    body = {"model": "tiny", "prompt": IDS, "max_tokens": 2, "logprobs": 0}
    told = (await engine.post(COMPLETION, body))["choices"][0]["logprobs"]
    assert list(told) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
    assert told["text_offset"] == [0, len(told["tokens"][0])]
    assert told["top_logprobs"][1] == {told["tokens"][1]: told["token_logprobs"][1]}
    second = chunks(await engine.stream(COMPLETION, body))[1]["choices"][0]["logprobs"]
    assert second["text_offset"] == told["text_offset"][1:]


async def test_an_answer_ends_where_the_context_does(engine):
    body = {"model": "tiny", "prompt": [7] * 131_070, "max_tokens": 500, "ignore_eos": True}
    answer = await engine.post(COMPLETION, body)
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_ids_are_of_vllms_form_and_never_the_same():
    async with sim_engine() as one, sim_engine() as other:
        body = {"model": "tiny", "messages": USER, "max_tokens": 1}
        ids = [(await engine.post(CHAT, body))["id"] for engine in (one, other, one)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"chatcmpl-[89ab][0-9a-f]{15}", each) for each in ids)


async def test_the_engines_mark_is_on_the_last_part_of_a_stream_that_tells_anything():
    async with sim_engine() as engine:
        told = chunks(await engine.stream(CHAT, {"model": "tiny", "messages": USER, "max_tokens": 2}))
    assert ["system_fingerprint" in chunk for chunk in told] == [False, False, True]

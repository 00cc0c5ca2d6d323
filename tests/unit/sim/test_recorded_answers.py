"""Every kind of request beside what vLLM 0.32.0 answered to it.

`answers_vllm_0_32_0.json` holds 189 requests to a real engine (a tiny model, 2,048 tokens of context, blocks of 32,
cached tokens and usage told) with status and content type, and of the body either its words, where the simulator uses
the same, or its shape: names in their order and types. Of streams, the shapes of the events in their order.
"""

import json
from pathlib import Path

import pytest
from sim_engine import ALL_FLAGS, sim_engine

RECORDED = json.loads((Path(__file__).parent / "answers_vllm_0_32_0.json").read_text())
OTHERWISE = {
    "derender": "turning token ids of elsewhere into answers is of no use in a simulation",
    "h_eos_stream": "no logit bias can make the simulated model end at once",
    "c_eos_stream": "no logit bias can make the simulated model end at once",
}


def long(told):
    """Values that repeat themselves, written out."""
    if isinstance(told, list):
        return [long(each) for each in told]
    if not isinstance(told, dict):
        return told
    if told.keys() == {"of", "times"}:
        return (told["of"] if isinstance(told["of"], str) else [told["of"]]) * told["times"]
    if told.keys() == {"from", "to"}:
        return list(range(told["from"], told["to"]))
    return {name: long(value) for name, value in told.items()}


def shape(value):
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    if value is None:
        return "null"
    return {bool: "bool", str: "string"}.get(type(value), "number")


def ordered(found):
    return json.dumps(found)


def events(text):
    found = []
    for each in filter(str.strip, text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in each.split("\n"))
        data = lines["data"]
        found.append(ordered(data if data == "[DONE]" else [lines.get("event"), shape(json.loads(data))]))
    return found


def differences(recorded, status, kind, text):
    shapes = RECORDED["shapes"]
    found = [] if status == recorded["status"] else [f"status {status}, not {recorded['status']}"]
    if kind != recorded["type"]:
        found.append(f"type {kind}, not {recorded['type']}")
    if found:
        return found
    if "events" in recorded:
        theirs, ours = [ordered(shapes[each]) for each in recorded["events"]], events(text)
        if (ours[0], ours[-1]) != (theirs[0], theirs[-1]) or not set(ours) <= set(theirs):
            return [f"events {sorted(set(ours) - set(theirs))}"]
    elif "answer" in recorded and json.loads(text) != recorded["answer"]:
        return [f"{text}, not {recorded['answer']}"]
    elif "shape" in recorded and ordered(shape(json.loads(text))) != ordered(shapes[recorded["shape"]]):
        return [f"shape {text[:300]}"]
    return []


@pytest.fixture
async def engine(tmp_path):
    config = {"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"}
    config["replay_endpoint"] = f"ipc://{tmp_path}/r"
    argv = ("--max-model-len", "2048", "--block-size", "32", "--kv-events-config", json.dumps(config))
    async with sim_engine(*ALL_FLAGS, *argv) as found:
        yield found


async def test_each_answer_has_the_status_the_type_and_the_shape_of_the_real_one(engine):
    wrong = {}
    for recorded in RECORDED["answers"]:
        given = recorded.get("body")
        raw = bytes.fromhex(recorded["raw_hex"]) if "raw_hex" in recorded else None
        data = raw if given is None else json.dumps(long(given)).encode()
        headers = {"content-type": "application/json"}
        method = "GET" if data is None else "POST"
        async with engine.http.request(method, engine.url + recorded["path"], data=data, headers=headers) as answer:
            kind = answer.headers.get("content-type")
            found = differences(recorded, answer.status, kind, await answer.text())
        if found:
            wrong[recorded["name"]] = found
    assert wrong.keys() == OTHERWISE.keys(), {name: wrong[name] for name in wrong if name not in OTHERWISE}

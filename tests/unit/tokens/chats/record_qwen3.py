"""What transformers makes of whole conversations with Qwen3's own template and vocabulary, for qwen3_transformers.json.

    pip install transformers==5.24.0 jinja2        in an environment of its own
    python tests/unit/tokens/chats/record_qwen3.py FOLDER > tests/unit/tokens/chats/qwen3_transformers.json

FOLDER is what `python tests/support/vocabularies.py` names. Each conversation is asked for at every turn of its own:
the template drops what the model thought before the last question, so a later turn rewrites earlier ones.
"""

import hashlib
import json
import sys
from array import array

from transformers import AutoTokenizer

CODE = "def prefill(tokens):\r\n\treturn [t for t in tokens if t > 0]  # 3 × ½ ≠ 2\n\n\n"
WORDS = (
    "Café, cafe\u0301, naïve 12345 don't WE'LL 漢字かな交じり文 👩‍👩‍👧 שלום \u00a0\u2003spaces   and\ttabs\n \n  end. "
)
LONG = "".join(f"Line {n}: the pool keeps what engine {n * 7} told it, and so on. " for n in range(60))
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tells <b>the</b> weather\'s "state" & more',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": None, "parameters": {"type": "object"}}}


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def said(text: str | None, thought: str | None = None, *calls: tuple[str, dict[str, object]]) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": text}
    if thought is not None:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = [
            {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(calls)
        ]
    return message


def result(text: str) -> dict[str, object]:
    return {"role": "tool", "content": text, "tool_call_id": "c0"}


SYSTEM = {"role": "system", "content": "You are terse.\n\nNever <|endoftext|> lie. "}
PARIS = ("weather", {"city": "Zürich & <Köln>", "days": 2})
CONVERSATIONS: list[dict[str, object]] = [
    {
        "messages": [
            user("hi"),
            said("hello"),
            user("and now?"),
            said("  more\n\n"),
            user(WORDS),
            said(CODE),
            user(CODE),
        ]
    },
    {"messages": [SYSTEM, user("1+1?"), said("2", "one and one"), user("sure?"), said("yes", "again\n"), user("why?")]},
    {
        "messages": [
            user("q"),
            said("<think>\nhidden\n</think>\n\nshown"),
            user("<think>mine</think>"),
            said("x"),
            user(""),
        ]
    },
    {
        "messages": [
            SYSTEM,
            user("weather?"),
            said("", "I have to ask", PARIS),
            result('{"sky": "grey", "note": "ünïcode"}'),
            said("Grey.", "so it is"),
            user("and the time?"),
            said("Both:", None, PARIS, ("clock", {})),
            result("12:00"),
            result("grey"),
            said("Noon, grey."),
            user("<tool_response>\nnot mine\n</tool_response>"),
        ],
        "tools": [WEATHER, CLOCK],
    },
    {"messages": [user("x"), said("y"), user("z")], "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [SYSTEM, user(LONG), said(LONG + WORDS, LONG), user(LONG + CODE), said(LONG), user("short")]},
    {
        "messages": [
            user("x"),
            {"role": "system", "content": "late"},
            user("y"),
            said("z"),
            {"role": "system", "content": "l"},
        ]
    },
]


def for_template(message: dict[str, object]) -> dict[str, object]:
    """As vLLM hands it over: arguments as an object, no content as an empty one."""
    message = {**message, "content": message["content"] or ""}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in calls
        ]
    return message


def recorded(tokenizer, conversation: dict[str, object]) -> dict[str, object]:
    messages = conversation["messages"]
    assert isinstance(messages, list)
    turns = []
    for end in range(1, len(messages) + 1):
        if messages[end - 1]["role"] == "assistant":
            continue
        text = tokenizer.apply_chat_template(
            [for_template(each) for each in messages[:end]],
            tools=conversation.get("tools"),
            tokenize=False,
            add_generation_prompt=True,
            **conversation.get("chat_template_kwargs", {}),
        )
        ids = tokenizer.encode(text, add_special_tokens=False)
        digest = hashlib.sha256(array("I", ids).tobytes()).hexdigest()
        turns.append({"messages": end, "text": text, "tokens": len(ids), "ids_sha256": digest})
    return {"body": conversation, "turns": turns}


if __name__ == "__main__":
    qwen3 = AutoTokenizer.from_pretrained(sys.argv[1])
    json.dump([recorded(qwen3, each) for each in CONVERSATIONS], sys.stdout, ensure_ascii=True, indent=1)
    sys.stdout.write("\n")

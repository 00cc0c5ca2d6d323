"""Chats rendered as vLLM renders them.

`chats/vllm_0_32.json` holds request bodies and what vLLM 0.32.0's own code made of them (its message parsing, its
conversions of `/v1/messages` and `/v1/responses`, transformers' templates) with each of the two templates beside it;
null where the template refused the messages.
"""

import json
from pathlib import Path

import pytest
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import ChatPrompt
from kvpool_router.tokens.conversation import conversation
from kvpool_router.tokens.protocol import Untokenizable
from kvpool_router.tokens.template import ChatTemplate

CHATS = Path(__file__).parent / "chats"
CASES = json.loads((CHATS / "vllm_0_32.json").read_text("utf-8"))
SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


@pytest.mark.parametrize("name", ["strings", "parts"])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_chat_is_rendered_as_vllm_renders_it(case: dict[str, object], name: str) -> None:
    template = ChatTemplate({"default": (CHATS / f"{name}.jinja").read_text()}, SPECIAL)
    (prompt,) = peek(str(case["path"]), json.dumps(case["body"]).encode()).prompts
    assert isinstance(prompt, ChatPrompt)
    if case[name] is None:
        with pytest.raises(Untokenizable, match="does not take it"):
            template.render(prompt)
    else:
        assert template.render(prompt) == case[name]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_call_is_printed_in_the_engines_order_whatever_the_clients(path: str) -> None:
    """As vLLM 0.32.0's `ChatCompletionRequest` gave it back, which serves `/v1/messages` too."""
    call = {"type": "function", "id": "c", "function": {"name": "f", "arguments": "{}"}}
    messages: dict[str, list[dict[str, object]]] = {
        "/v1/chat/completions": [{"role": "assistant", "tool_calls": [{**call, "own": 1}]}],
        "/v1/messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}],
    }
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}, *messages[path]]}
    (prompt,) = peek(path, json.dumps(body).encode()).prompts
    assert isinstance(prompt, ChatPrompt)
    printed = json.dumps(prompt.messages[1]["tool_calls"])
    own = ', "own": 1' if path == "/v1/chat/completions" else ""
    assert printed == '[{"id": "c", "function": {"arguments": "{}", "name": "f"}, "type": "function"' + own + "}]"


@pytest.mark.parametrize("role", ["user", "tool"])
def test_parts_without_text_leave_no_line_behind_where_parts_become_one_text(role: str) -> None:
    """As vLLM 0.32's `renderers/chat_utils.py` joins them; its `/render` has shown it."""
    parts = [{"type": "text", "text": text} for text in ("", "one", "", "two", "")]
    (joined,) = conversation([{"role": role, "content": parts}], takes_parts=False, knows_developer=True)
    assert joined["content"] == "one\ntwo"
    (kept,) = conversation([{"role": role, "content": parts}], takes_parts=True, knows_developer=True)
    assert kept["content"] == (parts if role == "user" else "\none\n\ntwo\n")

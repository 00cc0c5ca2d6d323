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

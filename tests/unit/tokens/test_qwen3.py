"""Qwen3's real vocabulary and template: whole conversations get the ids that transformers, and so vLLM, makes of them.

`chats/qwen3_transformers.json` is recorded by `chats/record_qwen3.py`.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
import vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import ChatPrompt, token_count
from kvpool_router.tokens import hf_impl
from kvpool_router.tokens.segments import Segments
from kvpool_router.tokens.template import ChatTemplate
from tokenizers import Tokenizer

CHATS = "/v1/chat/completions"
RECORDED = json.loads((Path(__file__).parent / "chats" / "qwen3_transformers.json").read_text("utf-8"))
TURNS = [
    pytest.param(conversation["body"], turn, id=f"{number}-{turn['messages']}")
    for number, conversation in enumerate(RECORDED)
    for turn in conversation["turns"]
]


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return vocabularies.qwen3()
    except vocabularies.Unreachable as why:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"Qwen3's vocabulary cannot be had here: {why}")


@pytest.fixture(scope="module")
def qwen3(folder: Path) -> Iterator[hf_impl.HfTokenizer]:
    """One for all conversations, so that later turns find earlier ones in its cache."""
    tokenizer = hf_impl.load(folder)
    yield tokenizer
    tokenizer.close()


@pytest.fixture(scope="module")
def plain(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / hf_impl.TOKENIZER_FILE))


def asked(body: dict[str, object], messages: int) -> ChatPrompt:
    told = body["messages"]
    assert isinstance(told, list)
    (prompt,) = peek(CHATS, json.dumps({**body, "messages": told[:messages]}).encode()).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt


@pytest.mark.parametrize(("body", "turn"), TURNS)
async def test_a_turn_of_a_conversation_has_the_ids_that_transformers_gives_it(
    qwen3: hf_impl.HfTokenizer, folder: Path, body: dict[str, object], turn: dict[str, object]
) -> None:
    prompt = asked(body, int(str(turn["messages"])))
    template = json.loads((folder / hf_impl.CONFIG_FILE).read_text("utf-8"))["chat_template"]
    assert ChatTemplate({"default": template}, {}).render(prompt) == turn["text"]
    ids = await qwen3.encode(prompt)
    assert (token_count(ids), hashlib.sha256(ids).hexdigest()) == (turn["tokens"], turn["ids_sha256"])


SPACES = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2028"]
SPECIALS = ["<think>", "</think>", "<tool_call>", "<|im_end|>", "<|im_start|>"]
WORDS = ["the", "pool's", "x", "don't", "WE'LL", "é", "e\u0301", "ſ", "漢字", "12", "½", "👩\u200d👧", "a.b", "{}", "_"]
BITS = st.sampled_from([*WORDS, *SPACES, *SPECIALS])
TEXTS = st.lists(BITS | st.text(max_size=3), max_size=80).map(" ".join) | st.lists(BITS, max_size=80).map("".join)


@given(TEXTS)
@settings(deadline=None)
def test_pieces_give_the_ids_of_the_whole_text(plain: Tokenizer, text: str) -> None:
    segments = Segments(plain, piece_chars=8)
    assert segments.in_pieces
    whole = plain.encode(text, add_special_tokens=False).ids
    assert array("I", b"".join(segments.encoded(segments.pieces(text)))).tolist() == whole


def test_a_rewritten_turn_costs_itself_and_no_other(plain: Tokenizer, folder: Path) -> None:
    template = ChatTemplate({"default": json.loads((folder / hf_impl.CONFIG_FILE).read_text())["chat_template"]}, {})
    segments = Segments(plain)

    def unknown(*messages: tuple[str, str]) -> list[str]:
        prompt = ChatPrompt([{"role": role, "content": content} for role, content in messages])
        pieces = segments.pieces(template.render(prompt))
        missing = [piece for piece, ids in zip(pieces, segments.known(pieces), strict=True) if ids is None]
        segments.keep(dict(zip(missing, segments.encoded(missing), strict=True)))
        return missing

    first = ("system", "rules"), ("user", "one"), ("assistant", "<think>\nhm\n</think>\n\nuno")
    unknown(*first)
    assert unknown(*first, ("user", "two")) == ["assistant\nuno", "user\ntwo"]

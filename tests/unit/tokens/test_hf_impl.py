"""A model folder becomes a tokenizer: framing, templates from either file, threads for long texts."""

import asyncio
import json
from array import array
from pathlib import Path

import pytest
from kvpool_api.wire import UntokenizedCause
from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, TextPrompt, TokenPrompt
from kvpool_router.tokens import hf_impl
from kvpool_router.tokens.protocol import Untokenizable
from kvpool_router.tokens.segments import Segments
from kvpool_router.tokens.template import ChatTemplate
from tiny_tokenizer import TEXT, tiny_tokenizer, write_model_folder

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
CHAT = ChatPrompt([{"role": "user", "content": "hi"}])


def told(ids: bytes) -> list[int]:
    return array("I", ids).tolist()


async def test_text_and_chats_get_the_ids_of_the_models_own_tokenizer(tmp_path: Path) -> None:
    tokenizer = hf_impl.load(write_model_folder(tmp_path, TEMPLATE))
    plain = tiny_tokenizer()
    assert told(await tokenizer.encode(TextPrompt("hello you"))) == plain.encode("hello you").ids
    assert told(await tokenizer.encode(CHAT)) == plain.encode("<|im_start|>user\nhi<|im_end|>\n").ids
    assert str(tmp_path) in tokenizer.description
    tokenizer.close()


async def test_special_tokens_frame_a_text_only_where_they_are_asked_for() -> None:
    tokenizer = hf_impl.HfTokenizer(tiny_tokenizer(bos=True), ChatTemplate({}, {}), "a test")
    plain = tiny_tokenizer(bos=True)
    for asked in (True, False):
        ids = told(await tokenizer.encode(TextPrompt("hello you", asked)))
        assert ids == plain.encode("hello you", add_special_tokens=asked).ids
    tokenizer.close()


async def test_long_new_text_is_tokenized_in_a_thread_with_the_same_result(tmp_path: Path) -> None:
    tokenizer = hf_impl.load(write_model_folder(tmp_path))
    long = " ".join(TEXT) * 3
    assert len(long) > hf_impl.INLINE_CHARS
    assert told(await tokenizer.encode(TextPrompt(long))) == tiny_tokenizer().encode(long).ids
    tokenizer.close()


async def test_many_long_prompts_at_once_keep_their_ids_though_the_cache_holds_none_of_them_long() -> None:
    tokenizer = hf_impl.HfTokenizer(tiny_tokenizer(), ChatTemplate({}, {}), "a test")
    tokenizer._segments = Segments(tiny_tokenizer(), piece_chars=64, cache_chars=500)
    long = [" ".join(TEXT[number:] + TEXT[:number]) for number in range(3)]
    assert min(map(len, long)) > hf_impl.INLINE_CHARS
    found = await asyncio.gather(*(tokenizer.encode(TextPrompt(text)) for text in [*long, long[0] + " x", TEXT[1]]))
    plain = tiny_tokenizer()
    assert list(map(told, found)) == [plain.encode(text).ids for text in [*long, long[0] + " x", TEXT[1]]]
    tokenizer.close()


async def test_token_ids_pass_and_opaque_prompts_say_why() -> None:
    tokenizer = hf_impl.HfTokenizer(tiny_tokenizer(), ChatTemplate({}, {}), "a test")
    assert await tokenizer.encode(TokenPrompt(b"\1\0\0\0")) == b"\1\0\0\0"
    with pytest.raises(Untokenizable, match="an image"):
        await tokenizer.encode(OpaquePrompt(UntokenizedCause.MEDIA, "an image"))
    tokenizer.close()


async def test_a_template_file_wins_over_the_configuration_and_a_replacement_over_both(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model", "from the configuration")
    (folder / "chat_template.jinja").write_text("from the file")
    mine = tmp_path / "mine.jinja"
    mine.write_text("mine")
    plain = tiny_tokenizer()
    for replacement, text in ((None, "from the file"), (mine, "mine")):
        tokenizer = hf_impl.load(folder, replacement)
        assert told(await tokenizer.encode(CHAT)) == plain.encode(text).ids
        tokenizer.close()


async def test_named_templates_are_read_as_older_configurations_list_them(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
    tokenizer = hf_impl.load(write_model_folder(tmp_path, named))
    with_tools = ChatPrompt(CHAT.messages, tools=[{}])
    assert told(await tokenizer.encode(with_tools)) == tiny_tokenizer().encode("with tools").ids
    tokenizer.close()


def test_special_tokens_are_read_in_both_spellings() -> None:
    assert hf_impl.special_tokens({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None}) == {
        "bos_token": "<s>",
        "eos_token": "</s>",
    }


def test_a_folder_without_a_readable_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json"):
        hf_impl.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer"):
        hf_impl.load(tmp_path)


def test_a_tokenizer_without_a_configuration_still_takes_text(tmp_path: Path) -> None:
    write_model_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    hf_impl.load(tmp_path).close()

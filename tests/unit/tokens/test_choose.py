"""The model's files where they can be had, else the engines; which it became is said in one line."""

import json
from array import array
from pathlib import Path

import aiohttp
import pytest
from kvpool_api.wire import TokenizerConfig
from kvpool_router.requests.prompts import ChatPrompt, OpaquePrompt, TextPrompt, TokenPrompt
from kvpool_router.tokens import choose
from kvpool_router.tokens.choose import choose_tokenizer, hub_folder
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.ids_impl import IdsTokenizer
from kvpool_router.tokens.protocol import Tokenizer, Untokenizable
from tiny_engine import TinyEngine, answers
from tiny_tokenizer import write_model_folder


async def chosen(config: TokenizerConfig, **further: object) -> Tokenizer:
    async with aiohttp.ClientSession() as session:
        return await choose_tokenizer(config, session, lambda: None, **further)  # type: ignore[arg-type]


async def test_a_configured_folder_comes_first(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    found = await chosen(TokenizerConfig(path=str(folder), hub_name="org/model"))
    assert found.description == f"in process, from {folder}"


async def test_the_hub_comes_next(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    asked: list[tuple[str, str | None]] = []

    def fetch(name: str, revision: str | None) -> Path:
        asked.append((name, revision))
        return folder

    found = await chosen(TokenizerConfig(hub_name="org/model", hub_revision="main"), fetch=fetch)
    assert found.description == f"in process, from {folder}"
    assert asked == [("org/model", "main")]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (TokenizerConfig(), "neither a folder nor a name"),
        (TokenizerConfig(path="/nowhere"), "holds no tokenizer.json"),
        (TokenizerConfig(hub_name="org/model"), "no network"),
    ],
)
async def test_without_files_an_engine_is_asked_and_the_reason_told(config: TokenizerConfig, why: str) -> None:
    def fetch(name: str, revision: str | None) -> Path:
        raise OSError("no network")

    found = await chosen(config, fetch=fetch)
    assert "asks an engine's /tokenize" in found.description
    assert why in found.description


async def test_a_broken_chat_template_leaves_the_engine_to_be_asked(tmp_path: Path) -> None:
    found = await chosen(TokenizerConfig(path=str(write_model_folder(tmp_path, "{% for %}"))))
    assert "TemplateSyntaxError" in found.description


def test_the_hubs_cache_is_read_before_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model_folder(tmp_path)
    online: list[str] = []

    def download(name: str, file: str, *, revision: str | None, local_files_only: bool = False) -> str:
        if local_files_only and not (folder / file).exists():
            raise choose.LocalEntryNotFoundError("not cached")
        if not local_files_only:
            online.append(file)
            raise OSError("offline")
        return str(folder / file)

    monkeypatch.setattr(choose, "hf_hub_download", download)
    assert hub_folder("org/model", None) == folder
    assert online == ["chat_template.jinja", "special_tokens_map.json"]


async def test_an_engine_tokenizes_text_and_chats_with_the_same_words() -> None:
    async with TinyEngine(answers({"count": 2, "tokens": [7, 8]})) as engine, aiohttp.ClientSession() as session:
        tokenizer = EngineTokenizer(session, lambda: engine.url, "no files")
        assert array("I", await tokenizer.encode(TextPrompt("hi", False))).tolist() == [7, 8]
        await tokenizer.encode(ChatPrompt([{"role": "user", "content": "x"}], tools=[], template_arguments={"a": 1}))
        assert await tokenizer.encode(TokenPrompt(b"\1\0\0\0")) == b"\1\0\0\0"
        text, chat = (json.loads(each.body) for each in engine.seen)
        assert text == {"prompt": "hi", "add_special_tokens": False}
        assert chat["messages"] == [{"role": "user", "content": "x"}]
        assert (chat["tools"], chat["chat_template_kwargs"]) == ([], {"a": 1})


async def test_an_engine_that_fails_makes_the_prompt_opaque_not_the_request_wrong() -> None:
    async with TinyEngine(answers({}, 500)) as broken, aiohttp.ClientSession() as session:
        for url, why in ((broken.url, "500"), ("http://127.0.0.1:9", "failed"), (None, "no engine is ready")):
            with pytest.raises(Untokenizable, match=why):
                await EngineTokenizer(session, lambda url=url: url, "no files").encode(TextPrompt("x"))
        with pytest.raises(Untokenizable, match="an image"):
            await EngineTokenizer(session, lambda: None, "no files").encode(OpaquePrompt("an image"))


async def test_without_any_tokenizer_ids_still_pass() -> None:
    tokenizer = IdsTokenizer("none given")
    assert await tokenizer.encode(TokenPrompt(b"\1\0\0\0")) == b"\1\0\0\0"
    for prompt, why in ((TextPrompt("x"), "no tokenizer"), (OpaquePrompt("an image"), "an image")):
        with pytest.raises(Untokenizable, match=why):
            await tokenizer.encode(prompt)

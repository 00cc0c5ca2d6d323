"""In-process tokenization with the model's own files: `tokenizers` for text, Jinja for chats. No call on the way."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from kvpool_router.requests.prompts import (
    ChatPrompt,
    Json,
    OpaquePrompt,
    Prompt,
    TextPrompt,
    TokenIds,
    TokenPrompt,
    packed,
)
from kvpool_router.tokens.protocol import Untokenizable
from kvpool_router.tokens.segments import Segments
from kvpool_router.tokens.template import ChatTemplate

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
FILES = (TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE, SPECIAL_TOKENS_FILE)

INLINE_CHARS = 4096
"""More new text than this goes to a thread: it would hold every other stream up for more than about a millisecond."""

_BATCH = 32
"""Pieces encoded at once, about 10 ms of one core: so long waits a short prompt behind a long one."""

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class HfTokenizer:
    """One model's tokenizer and template."""

    reads_itself = True

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, description: str) -> None:
        self.description = description
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._template = template
        self._segments = Segments(tokenizer)
        self._before, self._after = _framing(tokenizer)
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def encode(self, prompt: Prompt) -> TokenIds:
        """See `Tokenizer.encode`."""
        match prompt:
            case TokenPrompt(ids):
                return ids
            case TextPrompt(text, add_special_tokens):
                return await self._encode(text, add_special_tokens)
            case ChatPrompt():
                return await self._encode(self._template.render(prompt), prompt.add_special_tokens)
            case OpaquePrompt(cause, reason):
                raise Untokenizable(cause, reason)

    def close(self) -> None:
        """Ends the thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _encode(self, text: str, add_special_tokens: bool) -> TokenIds:
        segments = self._segments
        pieces = segments.pieces(text)
        known = segments.known(pieces)
        missing = list(dict.fromkeys(piece for piece, ids in zip(pieces, known, strict=True) if ids is None))
        encoded = await self._encoded(missing) if missing else {}
        segments.keep(encoded)
        ids = b"".join(encoded[piece] if ids is None else ids for piece, ids in zip(pieces, known, strict=True))
        return self._before + ids + self._after if add_special_tokens else ids

    async def _encoded(self, pieces: Sequence[str]) -> dict[str, TokenIds]:
        """Ids of each piece. Several long prompts take turns, batch by batch."""
        encoded = self._segments.encoded
        if sum(map(len, pieces)) <= INLINE_CHARS:
            return dict(zip(pieces, encoded(pieces), strict=True))
        loop = asyncio.get_running_loop()
        found: dict[str, TokenIds] = {}
        for start in range(0, len(pieces), _BATCH):
            batch = pieces[start : start + _BATCH]
            ids = await loop.run_in_executor(self._threads, encoded, batch)
            found.update(zip(batch, ids, strict=True))
        return found


def load(folder: Path, chat_template: Path | None = None) -> HfTokenizer:
    """The tokenizer of a model folder.

    Raises OSError or ValueError: the folder lacks a readable tokenizer.json, or its chat template is no template.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no {TOKENIZER_FILE}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises the bare class
        raise ValueError(f"{file} is no tokenizer: {error}") from error
    config = _read_json(folder / CONFIG_FILE)
    special = special_tokens({**_read_json(folder / SPECIAL_TOKENS_FILE), **config})
    template = ChatTemplate(_templates(folder, config, chat_template), special)
    return HfTokenizer(tokenizer, template, f"in process, from {folder}")


def special_tokens(config: Mapping[str, Any]) -> dict[str, Json]:
    """`bos_token` and its like, each written as text or as an object with `content`."""
    found: dict[str, Json] = {}
    for name in _SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _templates(folder: Path, config: Mapping[str, Any], replacement: Path | None) -> dict[str, str]:
    file = replacement or folder / TEMPLATE_FILE
    if replacement is not None or file.is_file():
        return {"default": file.read_text("utf-8")}
    given = config.get("chat_template")
    if isinstance(given, list):
        return {each["name"]: each["template"] for each in given}
    return {"default": given} if isinstance(given, str) else {}


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def _framing(tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Ids that the tokenizer puts before and after a text when it is asked to add special tokens."""
    bare = tokenizer.encode("word", add_special_tokens=False).ids
    framed = tokenizer.encode("word", add_special_tokens=True).ids
    extra = len(framed) - len(bare)
    before = next((at for at in range(extra + 1) if framed[at : at + len(bare)] == bare), 0)
    return packed(framed[:before]), packed(framed[before + len(bare) :])

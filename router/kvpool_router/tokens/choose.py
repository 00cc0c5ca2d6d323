"""Which tokenizer a router uses: the model's files where they can be had, else the engines."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import aiohttp
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from jinja2 import TemplateError
from kvpool_api.wire import TokenizerConfig

from kvpool_router.tokens import hf_impl
from kvpool_router.tokens.engine_impl import EngineTokenizer
from kvpool_router.tokens.protocol import Tokenizer

Fetch = Callable[[str, str | None], Path]
"""(repository, revision) -> folder with the tokenizer's files; raises OSError or ValueError where it cannot be had."""


async def choose_tokenizer(
    config: TokenizerConfig,
    session: aiohttp.ClientSession,
    ready_url: Callable[[], str | None],
    *,
    fetch: Fetch | None = None,
) -> Tokenizer:
    """The best that can be had now; never fails, since traffic flows without a tokenizer too.

    A configured folder comes first, then the hub (its cache on disk before the network), then an engine's `/tokenize`.
    `session` and `ready_url` serve the last. The answer's `description` says which it became, and why not a better one.
    """
    found = await asyncio.to_thread(_from_files, config, fetch or hub_folder)
    return EngineTokenizer(session, ready_url, found) if isinstance(found, str) else found


def hub_folder(name: str, revision: str | None) -> Path:
    """The folder of the hub's cache that holds the tokenizer's files, downloaded where they are not there yet.

    Raises OSError (which the hub's own errors are): the tokenizer cannot be had.
    """
    folder = _hub_file(name, hf_impl.TOKENIZER_FILE, revision).parent
    for file in hf_impl.FILES:
        with contextlib.suppress(OSError):
            _hub_file(name, file, revision)
    return folder


def _hub_file(name: str, file: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return Path(hf_hub_download(name, file, revision=revision))


def _from_files(config: TokenizerConfig, fetch: Fetch) -> hf_impl.HfTokenizer | str:
    """The tokenizer, or one clause that says why its files cannot be used."""
    template = Path(config.chat_template_path) if config.chat_template_path else None
    try:
        if config.path is not None:
            return hf_impl.load(Path(config.path), template)
        if config.hub_name is not None:
            return hf_impl.load(fetch(config.hub_name, config.hub_revision), template)
    except (OSError, ValueError, TemplateError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return "neither a folder nor a name on the hub is configured"

"""Which tokenizer a router uses: the model's files where they can be had, else the engines until they can."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from jinja2 import TemplateError
from kvpool_api.wire import TokenizerConfig

from kvpool_router.tasks import aside
from kvpool_router.tokens import hf_impl
from kvpool_router.tokens.hub import Hub
from kvpool_router.tokens.protocol import Tokenizer

LONGEST_PAUSE_S = 300.0


def pauses_s(random: Random) -> Iterator[float]:
    """Seconds between tries of the hub: doubled from 1 up to 300, and up to half less, since routers are many."""
    pause_s = 1.0
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def choose_tokenizer(
    config: TokenizerConfig, engines: Callable[[str], Tokenizer], hub: Hub, pauses_s: Iterator[float]
) -> AsyncIterator[Tokenizer]:
    """The best that can be had at once, and each better one when it can; never fails, traffic flows without one too.

    A configured folder comes first, then the hub's cache on disk: these are the only ones waited for. Where they hold
    nothing, `engines(why)` asks an engine's `/tokenize` while the hub is asked, again and again with pauses. Each of
    them answers with the ids that the engines compute, so that a change between them changes no ids.
    """
    from_disk = await aside(partial(_from_disk, config, hub))
    yield engines(from_disk) if isinstance(from_disk, str) else from_disk
    if isinstance(from_disk, str) and config.path is None and config.hub_name is not None and not hub.offline:
        async for tokenizer in _from_hub(config, config.hub_name, engines, hub, pauses_s):
            yield tokenizer


async def _from_hub(
    config: TokenizerConfig, name: str, engines: Callable[[str], Tokenizer], hub: Hub, pauses_s: Iterator[float]
) -> AsyncIterator[Tokenizer]:
    """Ends with files, whether they can be used or not: the hub would give the same again."""
    told = None
    for pause_s in pauses_s:
        try:
            folder = await aside(partial(hub.fetched, name, config.hub_revision))
        except OSError as error:
            if str(error) != told:
                told = str(error)
                yield engines(f"{told.rstrip('.')}; the hub is asked again now and then")
            await asyncio.sleep(pause_s)
        else:
            found = await aside(partial(_loaded, folder, config))
            yield engines(found) if isinstance(found, str) else found
            return


def _from_disk(config: TokenizerConfig, hub: Hub) -> hf_impl.HfTokenizer | str:
    """The tokenizer, or one clause that says why there is none."""
    if config.path is not None:
        return _loaded(Path(config.path), config)
    if config.hub_name is None:
        return "neither a folder nor a name on the hub is configured"
    try:
        return _loaded(hub.cached(config.hub_name, config.hub_revision), config)
    except OSError as error:
        return f"{error}{', and HF_HUB_OFFLINE is set' if hub.offline else '; the hub is being asked'}"


def _loaded(folder: Path, config: TokenizerConfig) -> hf_impl.HfTokenizer | str:
    template = Path(config.chat_template_path) if config.chat_template_path else None
    try:
        return hf_impl.load(folder, template)
    except (OSError, ValueError, TemplateError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]

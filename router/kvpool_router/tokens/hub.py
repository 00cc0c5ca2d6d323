"""The model hub as the origin of a tokenizer's files: its cache on disk first, its service over the network next."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from kvpool_router.tokens.hf_impl import FILES, TOKENIZER_FILE

FURTHER_FILES = tuple(file for file in FILES if file != TOKENIZER_FILE)

Fetch = Callable[[str, str | None], Path]
"""(repository, revision) -> folder with the tokenizer's files; raises OSError, mostly NotHeld."""


class NotHeld(OSError):
    """The files cannot be had there now; the message is one clause that says why."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a model's files are looked for by the model's name."""

    cached: Fetch
    """Asks nobody."""
    fetched: Fetch
    """May take minutes where packets are dropped: the hub's client tries again by itself."""
    offline: bool
    """There is nothing to be asked, now or later."""


def model_hub() -> Hub:
    """The hub as the environment describes it (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE)."""
    return Hub(cached_folder, fetched_folder, is_offline_mode())


def cached_folder(name: str, revision: str | None) -> Path:
    """The files, if the cache knows of each that it is there or that the repository has none; offline, what it holds.

    A folder that lacks its template because nobody has asked for it would make other token ids than the engine's.
    """
    unknown = [file for file in FURTHER_FILES if not _is_known(name, file, revision)]
    if unknown and not is_offline_mode():
        raise NotHeld(f"the hub's cache does not hold {', '.join(unknown)} of {name}")
    return _in_cache(name, revision)


def fetched_folder(name: str, revision: str | None) -> Path:
    """Downloads what the cache does not know of.

    The tokenizer itself comes last, and a file counts as absent only when the hub says so: a packet lost on the way
    must not leave a tokenizer without its template. Where the hub is away, a cache that somebody has filled will do.
    """
    try:
        for file in FURTHER_FILES:
            _fetch_if_any(name, file, revision)
        return Path(hf_hub_download(name, TOKENIZER_FILE, revision=revision)).parent
    except Exception as error:  # the client's own, its HTTP library's and the disk's have no common base
        try:
            return _in_cache(name, revision)
        except OSError:
            raise NotHeld(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _fetch_if_any(name: str, file: str, revision: str | None) -> None:
    if _is_known(name, file, revision):
        return
    try:
        hf_hub_download(name, file, revision=revision)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return


def _in_cache(name: str, revision: str | None) -> Path:
    found = _looked_up(name, TOKENIZER_FILE, revision)
    if not isinstance(found, str):
        raise NotHeld(f"the hub's cache holds no {TOKENIZER_FILE} of {name}")
    return Path(found).parent


def _is_known(name: str, file: str, revision: str | None) -> bool:
    """The cache has the file, or knows that the repository has none."""
    return _looked_up(name, file, revision) is not None


def _looked_up(name: str, file: str, revision: str | None) -> object:
    """As `try_to_load_from_cache`. Raises NotHeld: no repository can have that name."""
    try:
        found: object = try_to_load_from_cache(name, file, revision=revision)
    except ValueError as error:
        raise NotHeld(str(error).splitlines()[0]) from error
    return found

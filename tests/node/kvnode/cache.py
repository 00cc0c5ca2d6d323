"""Where what took long to make is kept, outside the checkout."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """`$KVPOOL_CACHE`, else kvpool's folder in the user's cache folder."""
    given = os.environ.get("KVPOOL_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvpool"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One maker at a time in `folder`, over all processes; a maker that dies lets go."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""One process runs a pool of a given name: it holds a lock in its folder, which the kernel lifts when it ends."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.runs import RunFolder


@contextmanager
def held(folders: Iterable[RunFolder]) -> Iterator[None]:
    """Holds all these folders until the block ends, or none of them.

    They are taken in the order of their paths, so that of two runs that want the same pools one gets them all. Raises
    UserError that names the pool which another process runs, or the folder that cannot be written.
    """
    with ExitStack() as stack:
        for folder in sorted(folders, key=lambda folder: folder.path):
            stack.enter_context(_held(folder))
        yield


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """The lock's file goes with the lock, and so does a folder in which nothing else was left."""
    with _opened(folder) as lock:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            folder.lock_file.unlink(missing_ok=True)
            with suppress(OSError):  # logs stay in it
                folder.path.rmdir()


def _opened(folder: RunFolder) -> TextIO:
    """The lock's file, locked. One that its last holder has taken away meanwhile locks nothing, and is opened anew."""
    while True:
        lock = _file(folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                lock.seek(0)
                raise UserError(_taken(folder, lock.read().strip()), exit_code=FAILED) from None
        if _stands(folder.lock_file, lock):
            return lock
        lock.close()


def _stands(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _file(folder: RunFolder) -> TextIO:
    try:
        folder.make()
        return folder.lock_file.open("a+")
    except OSError as error:
        raise UserError(
            f"run folder {folder.path} cannot be used: {error.strerror or error}; make it writable, "
            "or name another with --run-folder",
            exit_code=FAILED,
        ) from None


def _taken(folder: RunFolder, holder: str) -> str:
    record = folder.record()
    known = record is not None and str(record.pid) == holder
    of = f" (kvpool up {record.manifest})" if record is not None and known else ""
    return (
        f"pool {folder.path.name} is already run by process {holder or 'unknown'}{of}; "
        "end that one, give this pool another name, or name another folder with --run-folder"
    )

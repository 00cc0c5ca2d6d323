"""Text from a path that a user names: a file, or a pipe such as the shell's `<(command)`."""

import os
import select
import stat
from pathlib import Path

from kvpool_cli.errors import UserError

MOST_BYTES = 64 << 20
"""Far above any manifest or trace; a device such as /dev/zero has no end."""
WRITER_WITHIN_S = 10.0


def read_text(path: Path, *, named: str = "", writer_within_s: float = WRITER_WITHIN_S) -> str:
    """The file as text. `named` is how the user gave it (`--trace`), for the error.

    Raises UserError: missing, unreadable, a folder, not UTF-8, endless, or a pipe into which nobody writes.
    """
    where = f"{named} {path}".lstrip()
    try:
        content = _content(path, writer_within_s)
    except OSError as error:
        raise UserError(
            f"{where}: cannot be read: {error.strerror or error}; give the path of a readable file"
        ) from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{where}: cannot be read: more than {MOST_BYTES >> 20} MiB; give a smaller file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: cannot be read: byte {error.start + 1} is not UTF-8; save it as UTF-8 text"
        ) from None


def _content(path: Path, writer_within_s: float) -> bytes:
    """At most one byte more than MOST_BYTES. Opened without waiting: a pipe without a writer would hold the open up."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            _await_writer(file.fileno(), writer_within_s)
        os.set_blocking(file.fileno(), True)
        return file.read(MOST_BYTES + 1)


def _await_writer(pipe: int, within_s: float) -> None:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(1000 * within_s):
        raise OSError(0, f"a pipe into which nobody wrote within {within_s:g} s")

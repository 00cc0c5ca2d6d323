"""Ends processes of a local cluster that outlived it. Every process of a run carries the run's mark in its environment.

    python leftovers.py MARK        waits until its standard input closes, then ends whatever carries the mark

The local cluster starts this file as its warden, with a pipe: when the cluster's process ends, however hard, the kernel
closes the pipe. Standard library only, for it runs without site-packages.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "KVPOOL_LOCAL_RUN"


def marked(mark: str) -> Iterator[int]:
    """Ids of the processes of this user that carry the mark, this one left out."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and wanted in _environment(entry):
            yield int(entry.name)


def sweep(mark: str, *, deadline_s: float = 5.0) -> int:
    """Kill all that carry the mark until none is left; how many there were at first."""
    until = time.monotonic() + deadline_s
    found = left = set(marked(mark))
    while left and time.monotonic() < until:
        for pid in left:
            _kill(pid)
        time.sleep(0.01)
        left = set(marked(mark))
    return len(found)


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(sys.argv[1])

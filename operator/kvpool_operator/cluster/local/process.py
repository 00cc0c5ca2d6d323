"""A container as a child process: a session and process group of its own, one log, an end that leaves nothing."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvpool_operator.cluster.local import exec_with_parent
from kvpool_operator.cluster.local.errors import StartFault

LAST_WORDS_LINES = 80
LAST_WORDS_BYTES = 2048
"""What a kubelet puts of a log into a Pod's status."""
KEPT_LOG_BYTES = 262_144
"""What is kept of a log beyond that, for whoever asks for it."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: argv, the whole environment, the working directory, and the file that output is appended to."""

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its code as a container runtime reports it (128 + signal), and the signal or None."""

    code: int
    signal: int | None


class Process:
    """A started process. Its group ends with it: what it leaves behind is killed."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self._child = child
        self._log = log
        self._log_start = log_start
        self._is_over = False

    @classmethod
    async def start(cls, command: Command) -> "Process":
        """Raises StartFault where the program is not there."""
        program = shutil.which(command.argv[0], path=command.env.get("PATH"))
        if program is None:
            raise StartFault("RunContainerError", f"{command.argv[0]!r} was not found or cannot be executed")
        pact = (sys.executable, "-I", "-S", exec_with_parent.__file__, str(os.getpid()))
        with command.log.open("ab") as log:
            start = log.tell()
            child = await asyncio.create_subprocess_exec(
                *pact,
                program,
                *command.argv[1:],
                env=command.env,
                cwd=command.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return cls(child, command.log, start)

    @property
    def pid(self) -> int:
        return self._child.pid

    async def wait(self) -> Exit:
        code = await self._child.wait()
        self.kill()
        self._is_over = True
        return Exit(128 - code, -code) if code < 0 else Exit(code, None)

    async def end(self, grace_s: float) -> Exit:
        """SIGTERM to the group; SIGKILL once the grace is over."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def last_words(self) -> str:
        """The end of what it has written, as much as a kubelet tells of a container that failed."""
        return "\n".join(self.end_of_log(LAST_WORDS_BYTES).splitlines()[-LAST_WORDS_LINES:])

    def end_of_log(self, at_most_bytes: int = KEPT_LOG_BYTES) -> str:
        """The end of what it has written itself: the log file also holds what processes before it wrote."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - at_most_bytes))
            return log.read().decode(errors="replace")
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self._is_over:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

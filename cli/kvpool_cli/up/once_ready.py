"""The command of `--once-ready`: runs against the pool, and never outlives it."""

import asyncio
import os
import sys
from collections.abc import Mapping

from kvpool_operator.cluster.local import exec_with_parent

GRACE_S = 5.0
SIGNALLED = 128


async def run_command(command: str, told: Mapping[str, str]) -> int:
    """Runs it in a shell with `told` added to the environment; its exit code. Cancelling ends it."""
    with_parent = (sys.executable, "-I", "-S", exec_with_parent.__file__, str(os.getpid()))
    child = await asyncio.create_subprocess_exec(*with_parent, "/bin/sh", "-c", command, env={**os.environ, **told})
    try:
        code = await child.wait()
    except asyncio.CancelledError:
        await _end(child)
        raise
    return code if code >= 0 else SIGNALLED - code


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(GRACE_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()

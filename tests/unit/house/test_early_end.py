"""Processes that are the first of their container: the kernel keeps from those what they have no handler for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from control_planes import wait_until


def catches(process: subprocess.Popen[bytes], number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("package", ["kvpool_operator", "kvpool_router", "kvpool_sim"])
def test_a_process_that_is_told_to_end_while_it_still_starts_does(package):
    process = subprocess.Popen(
        [sys.executable, "-m", package], stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    try:
        wait_until(lambda: catches(process, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, b"")
    finally:
        process.kill()
        process.wait()

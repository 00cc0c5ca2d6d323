"""Becomes another program, which the kernel kills when the parent of this process ends.

    python exec_with_parent.py PARENT_PID PROGRAM ARGUMENT...

A program of its own and no `preexec_fn`: after a fork in a process with threads only async-signal-safe calls are safe.
The kernel watches the parent's thread that forked, which is the event loop's. Standard library only.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent ended before its child began")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the program is the caller's own choice

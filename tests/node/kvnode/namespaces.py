"""The processes of a node, seen from the machine: its first one, and those of its pid namespace."""

import os
import signal
import sys
import time
from pathlib import Path

from kvnode import programs
from kvnode.failure import NodeFailure
from kvnode.node import Node

INIT = "kvnode.init"
PACKAGE_PARENT = Path(__file__).resolve().parent.parent


def start_init(node: Node, bin_folder: Path) -> int:
    """The pid of `unshare`; below it is the node's first process, and if either is killed, the node dies."""
    entered = ("nsenter", f"--net={node.netns_path}")
    inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave")
    first = (sys.executable, "-m", INIT, node.name, str(bin_folder))
    env = os.environ | {"PYTHONPATH": str(PACKAGE_PARENT)}
    return programs.start_detached((*entered, *inside, *first), node.state / "init.log", env=env)


def runs(pid: int) -> bool:
    """By its state: its command line is empty for a moment while it becomes another program."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def init_pid(node: Node) -> int | None:
    """The pid, as the machine counts, of the node's first process; None when there is no node."""
    return next((pid for pid in _started_by_us(node) if _pid_namespace(pid) not in ("", _our_pid_namespace())), None)


def pids_of(node: Node, program: str) -> list[int]:
    """The node's processes that run `program`, containers left out."""
    init = init_pid(node)
    if init is None:
        return []
    inside = _pid_namespace(init)
    return [pid for pid in _pids() if _pid_namespace(pid) == inside != "" and Path(_link(pid, "exe")).name == program]


def kill_all(node: Node, deadline_s: float = 20) -> None:
    """Kills the first process, and so all; returns once the kernel has finished with them. Errors: NodeFailure."""
    pids = _started_by_us(node)
    theirs = {_pid_namespace(pid) for pid in pids} - {"", _our_pid_namespace()}
    for pid in pids:
        _kill(pid)
    end = time.monotonic() + deadline_s
    while any(_pid_namespace(pid) in theirs for pid in _pids()):
        if time.monotonic() > end:
            raise NodeFailure(f"processes of node {node.name} do not end within {deadline_s:.0f} s of being killed")
        time.sleep(0.02)


def _started_by_us(node: Node) -> list[int]:
    """The node's first process, and those outside that became it or wait for it."""
    return [pid for pid in _pids() if _argv(pid)[-4:-1] == ["-m", INIT, node.name]]


def _pid_namespace(pid: int) -> str:
    return _link(pid, "ns/pid")


def _our_pid_namespace() -> str:
    return _pid_namespace(os.getpid())


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _link(pid: int, name: str) -> str:
    """Empty for a process that is gone or dead."""
    try:
        return os.readlink(f"/proc/{pid}/{name}").removesuffix(" (deleted)")
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

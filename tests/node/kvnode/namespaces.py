"""The processes of a node, seen from the machine: its first one, and those of its pid namespace."""

import os
import signal
import sys
import time
from collections.abc import Iterator
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
    return bool(_argv(pid))


def init_pid(node: Node) -> int | None:
    """The pid, as the machine counts, of the node's first process; None when there is no node."""
    return next((pid for pid, argv in _started_by_us(node) if Path(argv[0]).name != "unshare"), None)


def pids_of(node: Node, program: str) -> list[int]:
    """The node's processes that run `program`, containers left out."""
    init = init_pid(node)
    if init is None:
        return []
    inside = os.readlink(f"/proc/{init}/ns/pid")
    return [pid for pid in _pids() if _link(pid, "ns/pid") == inside and Path(_link(pid, "exe")).name == program]


def kill_all(node: Node, deadline_s: float = 20) -> None:
    """Kills the first process, and so all; returns once the kernel has finished with them. Errors: NodeFailure."""
    namespaces = set()
    for pid, argv in _started_by_us(node):
        if Path(argv[0]).name != "unshare":
            namespaces.add(_link(pid, "ns/pid"))
        _kill(pid)
    end = time.monotonic() + deadline_s
    while any(_link(pid, "ns/pid") in namespaces for pid in _pids()):
        if time.monotonic() > end:
            raise NodeFailure(f"processes of node {node.name} do not end within {deadline_s:.0f} s of being killed")
        time.sleep(0.02)


def _started_by_us(node: Node) -> Iterator[tuple[int, list[str]]]:
    for pid in _pids():
        argv = _argv(pid)
        if argv[-4:-1] == ["-m", INIT, node.name] and argv[0] != "nsenter":
            yield pid, argv


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

"""A network namespace of our own, whose ports can be blocked without a trace for anybody else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_INSIDE = "KVPOOL_BENCHMARK_IN_A_NAMESPACE"


def enter() -> None:
    """Begins this program again within a namespace; returns where that cannot be had, or it is there already."""
    if is_own() or not _possible():
        return
    os.execvpe("unshare", [*_unshare(), sys.executable, *sys.orig_argv[1:]], {**os.environ, _INSIDE: "1"})  # noqa: S606


def is_own() -> bool:
    return _INSIDE in os.environ


def prepare() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def blocked(ports: list[int]) -> Iterator[None]:
    """Packets from and to these ports are dropped, of connections that stand, too."""
    rules = [("INPUT", way, str(port)) for port in ports for way in ("--dport", "--sport")]
    _change("-I", rules)
    try:
        yield
    finally:
        _change("-D", rules)


def _change(how: str, rules: list[tuple[str, str, str]]) -> None:
    """All at once: one program a rule would take seconds."""
    lines = [f"{how} {chain} -p tcp {way} {port} -j DROP" for chain, way, port in rules]
    told = "\n".join(("*filter", *lines, "COMMIT", ""))
    subprocess.run(["iptables-restore", "--noflush"], input=told, text=True, check=True)


def _unshare() -> list[str]:
    """With process ids of its own too: whatever ends this program ends all that it has started."""
    own = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *own, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def _possible() -> bool:
    try:
        trial = [*_unshare(), "sh", "-c", "ip link set lo up && iptables-restore --noflush </dev/null"]
        return subprocess.run(trial, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False

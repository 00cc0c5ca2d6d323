"""The node's network: a namespace with one bridge and no route out, so no stray packet can leave it."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kvnode.control_plane import SERVICES
from kvnode.failure import NodeFailure
from kvnode.node import ADDRESS, BRIDGE, Node


def create(node: Node) -> None:
    with _names_held():
        _ip("netns", "add", node.netns)
    inside = ("-n", node.netns)
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "link", "add", BRIDGE, "type", "bridge")
    _ip(*inside, "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
    _ip(*inside, "link", "set", BRIDGE, "up")
    _ip(*inside, "route", "add", SERVICES, "dev", BRIDGE)  # else the node itself reaches no ClusterIP


def delete(node: Node) -> None:
    """And the folder of names, mounted on itself, which `ip` makes for the first and keeps after the last."""
    with _names_held():
        if node.netns_path.exists():
            _ip("netns", "delete", node.netns)
        names = node.netns_path.parent
        if names.is_dir() and not any(names.iterdir()):
            subprocess.run(["umount", str(names)], capture_output=True, check=False)
            with suppress(OSError):
                names.rmdir()


@contextmanager
def _names_held() -> Iterator[None]:
    """Against another node's start, which may find the folder of names just before it goes."""
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodeFailure(f"ip {' '.join(words)} failed: {done.stderr.strip()}; `down` removes what is half made")

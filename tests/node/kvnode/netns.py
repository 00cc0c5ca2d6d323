"""The node's network: a namespace with one bridge and no route out, so no stray packet can leave it."""

import subprocess

from kvnode.control_plane import SERVICES
from kvnode.failure import NodeFailure
from kvnode.node import ADDRESS, BRIDGE, Node


def create(node: Node) -> None:
    _ip("netns", "add", node.netns)
    inside = ("-n", node.netns)
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "link", "add", BRIDGE, "type", "bridge")
    _ip(*inside, "address", "add", f"{ADDRESS}/24", "dev", BRIDGE)
    _ip(*inside, "link", "set", BRIDGE, "up")
    _ip(*inside, "route", "add", SERVICES, "dev", BRIDGE)  # else the node itself reaches no ClusterIP


def delete(node: Node) -> None:
    if node.netns_path.exists():
        _ip("netns", "delete", node.netns)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodeFailure(f"ip {' '.join(words)} failed: {done.stderr.strip()}; `down` removes what is half made")

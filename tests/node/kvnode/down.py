"""Stops a node and removes all that is left of it, whatever state it is in."""

import shutil

from kvnode import cgroups, mounts, namespaces, netns
from kvnode.node import STATES, Node


def down(name: str) -> None:
    """Safe for a node that runs, half runs, was killed, or never was. Errors: NodeFailure."""
    node = Node(name)
    namespaces.kill_all(node)
    netns.delete(node)
    cgroups.remove(cgroups.here(), node.cgroup)
    mounts.remove_points(node)
    if node.state.exists():
        shutil.rmtree(node.state)
    if STATES.is_dir() and not any(STATES.iterdir()):
        STATES.rmdir()

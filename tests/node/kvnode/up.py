"""Starts a node, or says that it is there."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvnode import build, cache, cgroups, machine, mounts, namespaces, netns
from kvnode.down import down
from kvnode.failure import NodeFailure
from kvnode.node import DEFAULT, Node
from kvnode.signals import undisturbed

START_S = 300.0


@dataclass(frozen=True)
class Running:
    """A node that is Ready: its admin's kubeconfig, good inside the network namespace `netns`."""

    kubeconfig: Path
    netns: str


def up(name: str = DEFAULT) -> Running:
    """A Ready node of that name, started unless it runs. Errors: NodeFailure, with nothing left behind."""
    node = Node(name)
    lacking = machine.missing(cache.root())
    if lacking:
        raise NodeFailure("\n".join(lacking))
    bin_folder = build.ensure(cache.root())
    with _alone(node):
        if not is_up(node):
            down(name)
            try:
                _start(node, bin_folder)
            except BaseException:
                with undisturbed():
                    _keep_logs(node)
                    down(name)
                raise
    return Running(node.kubeconfig, node.netns)


def is_up(node: Node) -> bool:
    return node.ready.exists() and namespaces.init_pid(node) is not None


def _start(node: Node, bin_folder: Path) -> None:
    node.state.mkdir(parents=True)
    netns.create(node)
    cgroups.create(cgroups.here(), node.cgroup)
    mounts.make_points(node)
    started = namespaces.start_init(node, bin_folder)
    end = time.monotonic() + START_S
    while not node.ready.exists():
        _raise_if_ended(node, started)
        if time.monotonic() > end:
            raise NodeFailure(f"node {node.name} is not Ready after {START_S:.0f} s; its logs: {_kept(node)}")
        time.sleep(0.05)


def _raise_if_ended(node: Node, started: int) -> None:
    if namespaces.runs(started):
        return
    why = node.failed if node.failed.exists() else node.state / "init.log"
    raise NodeFailure(f"node {node.name} did not start: {why.read_text().strip()}\nits logs: {_kept(node)}")


def _kept(node: Node) -> Path:
    return cache.root() / "node" / "failed" / node.name


def _keep_logs(node: Node) -> None:
    if node.logs.is_dir():
        shutil.rmtree(_kept(node), ignore_errors=True)
        shutil.copytree(node.logs, _kept(node))


@contextmanager
def _alone(node: Node) -> Iterator[None]:
    """One starter of a node at a time. An abstract socket's name is free again when its holder dies, and is no file."""
    with socket.socket(socket.AF_UNIX) as held:
        end = time.monotonic() + START_S
        while True:
            try:
                held.bind(f"\0kvnode-{node.name}")
            except OSError:
                if time.monotonic() > end:
                    raise NodeFailure(f"another start of node {node.name} is under way and does not end") from None
                time.sleep(0.2)
            else:
                break
        yield

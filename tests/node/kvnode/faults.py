"""Parts of a running node, stopped and started again while it runs, by the program's name.

    with paused(node, "kube-apiserver"):    its connections hang, as behind a dead network
    with stopped(node, "kubelet"):          it is gone, as after a crash; at the end it is started as it was

The programs: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, containerd, kubelet, kube-proxy, coredns.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kvnode import namespaces, programs
from kvnode.failure import NodeFailure
from kvnode.node import Node

GONE_S = 10.0


@contextmanager
def paused(node: Node, program: str) -> Iterator[None]:
    _signal(node, program, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(node, program, signal.SIGCONT)


@contextmanager
def stopped(node: Node, program: str) -> Iterator[None]:
    kill(node, program)
    try:
        yield
    finally:
        start(node, program)


def kill(node: Node, program: str) -> None:
    """By -9; gone when this returns. Errors: NodeFailure when it does not run."""
    _signal(node, program, signal.SIGKILL)
    programs.wait(f"{program} is gone", lambda: not namespaces.pids_of(node, program), lambda: None, GONE_S)


def start(node: Node, program: str) -> None:
    """As the node's start did; runs when this returns, which is not yet ready. Errors: NodeFailure."""
    init = namespaces.init_pid(node)
    if init is None:
        raise NodeFailure(f"node {node.name} is not up")
    again = programs.recorded(node.programs, program)
    # With --no-fork the shell is still outside of the pid namespace; what it starts is inside.
    entry = ("nsenter", "--target", str(init), "--pid", "--mount", "--net", "--no-fork")
    programs.start_detached(again.argv, node.logs / f"{program}.log", entry=entry, env=os.environ)
    programs.wait(f"{program} runs", lambda: bool(namespaces.pids_of(node, program)), lambda: None, GONE_S)


def _signal(node: Node, program: str, number: signal.Signals) -> None:
    pids = namespaces.pids_of(node, program)
    if not pids:
        raise NodeFailure(f"no {program} runs on node {node.name}")
    for pid in pids:
        os.kill(pid, number)

"""Clusters for as long as a program needs them."""

import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from kvnode import build, cache
from kvnode.cluster import Cluster, chosen
from kvnode.failure import NodeFailure
from kvnode.signals import undisturbed, unwinding


@contextmanager
def held(*names: str) -> Iterator[Sequence[Cluster]]:
    """Up in the block and down after it, by whatever it ends: an error, Ctrl-C, SIGTERM.

    What a run before it left, ended by `kill -9`, goes first. Where KUBECONFIG names a cluster, that one alone, and it
    stays as it is: it is its owner's. Errors: NodeFailure.
    """
    with ExitStack() as undo:
        undo.enter_context(unwinding())
        used = [chosen(name) for name in names]
        if os.environ.get("KUBECONFIG"):
            used[0].up()
            yield used[:1]
            return
        for name in names:
            undo.enter_context(_alone(name))
        undo.callback(_down, used)
        _down(used)
        _up(used)
        yield used


def _up(clusters: Sequence[Cluster]) -> None:
    if not build.is_here(cache.root()):
        clusters[0].up()  # which builds for minutes; whoever is interrupted waits for his other threads
    with ThreadPoolExecutor() as starting:
        list(starting.map(lambda each: each.up(), clusters))


def _down(clusters: Sequence[Cluster]) -> None:
    with undisturbed():
        for each in clusters:
            each.down()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """An abstract socket's name is free again when its holder dies, and is no file."""
    with socket.socket(socket.AF_UNIX) as user:
        try:
            user.bind(f"\0kvnode-user-of-{name}")
        except OSError:
            raise NodeFailure(f"another run uses cluster {name}; wait for its end, or end it") from None
        yield

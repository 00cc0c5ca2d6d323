"""Which cluster tests and trials use: what KUBECONFIG names, else kind where docker runs, else a node of our own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kvnode import build, cache, images, machine, own_images
from kvnode.down import down
from kvnode.failure import NodeFailure
from kvnode.node import DEFAULT, STATES, Node
from kvnode.up import is_up, up


class Cluster(Protocol):
    """Errors of all methods: NodeFailure."""

    @property
    def kubeconfig(self) -> Path: ...

    @property
    def entry(self) -> tuple[str, ...]:
        """The words before a command that is to reach the cluster; empty where every process does."""

    def up(self) -> None: ...

    def down(self) -> None: ...

    def is_up(self) -> bool: ...

    def load(self, archive: Path) -> None:
        """Makes an OCI archive's image one that Pods can use without pulling."""

    def take_own_images(self) -> None:
        """kvpool's, as they are in this checkout; what is unchanged is neither built nor loaded again."""


@dataclass(frozen=True)
class Given:
    """Somebody's cluster: used as it is, never started, stopped or given images."""

    kubeconfig: Path
    entry: tuple[str, ...] = ()

    def up(self) -> None:
        if not self.kubeconfig.is_file():
            raise NodeFailure(f"KUBECONFIG names {self.kubeconfig}, which is no file; correct it, or unset it")

    def down(self) -> None:
        return None

    def is_up(self) -> bool:
        return self.kubeconfig.is_file()

    def load(self, archive: Path) -> None:
        raise _not_ours(archive.name)

    def take_own_images(self) -> None:
        raise _not_ours("kvpool's images")


@dataclass(frozen=True)
class Kind:
    """kind with its default node image; plain, because it was written where no docker runs and has never been tried."""

    name: str
    entry: tuple[str, ...] = ()

    @property
    def kubeconfig(self) -> Path:
        return cache.root() / "kind" / self.name / "kubeconfig"

    def up(self) -> None:
        if not self.is_up():
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            what = ("export", "kubeconfig") if self._is_listed() else ("create", "cluster", "--wait", "120s")
            self._kind(*what, "--kubeconfig", str(self.kubeconfig))

    def down(self) -> None:
        self._kind("delete", "cluster", "--kubeconfig", str(self.kubeconfig))
        self.kubeconfig.unlink(missing_ok=True)

    def is_up(self) -> bool:
        return self.kubeconfig.is_file() and self._is_listed()

    def load(self, archive: Path) -> None:
        self._kind("load", "image-archive", str(archive))

    def take_own_images(self) -> None:
        """Built by docker, which is there: buildah and debootstrap need not be."""
        argv = [sys.executable, str(own_images.ROOT / "deploy" / "images" / "build.py"), "--tool", "docker"]
        if subprocess.run(argv, check=False).returncode:
            raise NodeFailure("kvpool's images are not built, for the reason above")
        self._kind("load", "docker-image", *own_images.names())

    @property
    def _cluster(self) -> str:
        return f"kvpool-{self.name}"

    def _is_listed(self) -> bool:
        listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False)
        return self._cluster in listed.stdout.split()

    def _kind(self, *words: str) -> None:
        done = subprocess.run(["kind", *words, "--name", self._cluster], check=False)
        if done.returncode:
            raise NodeFailure(f"kind {' '.join(words)} failed, for the reason above")


@dataclass(frozen=True)
class Own:
    node: Node

    @property
    def kubeconfig(self) -> Path:
        return self.node.kubeconfig

    @property
    def entry(self) -> tuple[str, ...]:
        return ("nsenter", f"--net={self.node.netns_path}")

    def up(self) -> None:
        up(self.node.name)

    def down(self) -> None:
        down(self.node.name)

    def is_up(self) -> bool:
        return is_up(self.node)

    def load(self, archive: Path) -> None:
        images.load(self.node, archive)

    def take_own_images(self) -> None:
        for archive in own_images.archives():
            self.load(archive)


def _not_ours(what: str) -> NodeFailure:
    return NodeFailure(
        f"{what} cannot be loaded into a cluster of somebody else's; push kvpool's images to a registry that it pulls"
        " from (make images REGISTRY=registry.example/team) and say KVPOOL_REGISTRY=registry.example/team, or unset"
        " KUBECONFIG"
    )


def chosen(name: str = DEFAULT) -> Cluster:
    """By the environment. A KUBECONFIG that is a node's or kind cluster's of ours means that one."""
    given = os.environ.get("KUBECONFIG")
    if given:
        return named(Path(given).resolve())
    return Kind(name) if docker_runs() else Own(Node(name))


def named(kubeconfig: Path) -> Cluster:
    if kubeconfig.parent.parent == STATES:
        return Own(Node(kubeconfig.parent.name))
    if kubeconfig.parent.parent == cache.root() / "kind":
        return Kind(kubeconfig.parent.name)
    return Given(kubeconfig)


def is_here() -> bool:
    """Whether the tests' cluster can be started without building or installing anything.

    Whatever cluster it is, tests take the built kubectl, helm and API server, and build images. A KUBECONFIG does not
    count: tests go into somebody's cluster only when they are asked for by name.
    """
    if os.environ.get("KUBECONFIG"):
        return False
    root = cache.root()
    if not build.is_here(root) or machine.missing_packages(machine.IMAGE_PROGRAMS):
        return False
    return docker_runs() or not machine.missing(root)


def docker_runs() -> bool:
    """And kind is there to use it."""
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0

"""A Kubernetes cluster for tests and trials on this machine.

up starts it, loads kvpool's images, made from this checkout, and says what to type next; where it is up already, the
images are made and loaded anew. shell is a shell from which kubectl, helm and the guide's commands reach it; down stops
it and leaves nothing but the cache. Which cluster: the one that KUBECONFIG names, as it is; else kind, where docker
runs; else a node of our own, built from Go modules the first time (about 12 minutes) and started in a network namespace
of its own (about 5 seconds).
"""

import argparse
import os
import re
import shlex
import sys

from kvnode import build, cache, own_images
from kvnode.cluster import Cluster, chosen
from kvnode.failure import NodeFailure
from kvnode.node import DEFAULT
from kvnode.signals import unwinding


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the program's output


NEXT = """next, as docs/install.md tells it:
  tests/node/shell
  kubectl apply -k deploy/
  kubectl apply -f examples/simulated.yaml"""


def up(cluster: Cluster, *, bare: bool) -> None:
    cluster.up()
    if not bare:
        give_own_images(cluster)
    tell_how_to_use(cluster)
    if not bare and own_images.registry() == own_images.NOWHERE:
        say(NEXT)


def tell_how_to_use(cluster: Cluster) -> None:
    built = build.folder(cache.root()) / "bin" / "kubectl"
    kubectl = str(built) if built.exists() else "kubectl"
    say(f"the cluster is up; its kubeconfig: {cluster.kubeconfig}")
    say(f"  {shlex.join((*cluster.entry, kubectl, '--kubeconfig', str(cluster.kubeconfig), 'get', 'pods', '-A'))}")


def give_own_images(cluster: Cluster) -> None:
    names = ", ".join(own_images.names())
    if own_images.registry() != own_images.NOWHERE:
        say(f"pulled from the registry: {names}")
        return
    say("making kvpool's images from this checkout (some minutes the first time, seconds when nothing has changed)")
    cluster.take_own_images()
    say(f"loaded: {names}")


def shell(cluster: Cluster) -> None:
    """In place of this process. The user's own shell, with our kubectl first: a node is as new as it."""
    programs = (build.folder(cache.root()) / "bin", own_images.ROOT / ".venv" / "bin")
    path = os.pathsep.join([*(str(folder) for folder in programs if folder.is_dir()), os.environ["PATH"]])
    there = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path}
    say("in this shell kubectl, helm and kubectl kvpool reach the cluster; exit leaves it")
    argv = (*cluster.entry, os.environ.get("SHELL") or "/bin/sh")
    os.execvpe(argv[0], argv, there)  # noqa: S606 - the user's own shell


def name_of_a_node(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: at most 32 of a-z, 0-9 and -, such as {DEFAULT}")
    return text


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m kvnode", description=__doc__)
    parser.add_argument("command", choices=("build", "up", "shell", "down", "kubeconfig", "status"))
    parser.add_argument("--name", default=DEFAULT, type=name_of_a_node, help=f"which of several (default: {DEFAULT})")
    parser.add_argument("--bare", action="store_true", help="up: without kvpool's images")
    asked = parser.parse_args(words)
    if asked.command == "build":
        say(str(build.ensure(cache.root())))
        return
    cluster = chosen(asked.name)
    if asked.command == "up":
        up(cluster, bare=asked.bare)
    elif asked.command == "down":
        cluster.down()
        say("the cluster is down")
        return
    elif not cluster.is_up():
        raise NodeFailure("no cluster is up; start it: make cluster")
    elif asked.command == "shell":
        shell(cluster)
    elif asked.command == "kubeconfig":
        say(str(cluster.kubeconfig))
    else:
        tell_how_to_use(cluster)


def run(words: list[str]) -> None:
    """As a program: what went wrong is one text for people."""
    try:
        with unwinding():
            main(words)
    except NodeFailure as failure:
        raise SystemExit(str(failure)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; nothing was left half started") from None


if __name__ == "__main__":
    run(sys.argv[1:])

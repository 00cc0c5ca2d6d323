"""A Kubernetes cluster for tests and trials on this machine.

up starts it and says how to use it; images builds kvpool's own images and loads them; down stops it and leaves nothing
but the cache. Which cluster: the one that
KUBECONFIG names, as it is; else kind, where docker runs; else a node of our own, built from Go modules the first time
(about 12 minutes) and started in a network namespace of its own (about 5 seconds).
"""

import argparse
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


def tell_how_to_use(cluster: Cluster) -> None:
    built = build.folder(cache.root()) / "bin" / "kubectl"
    kubectl = str(built) if built.exists() else "kubectl"
    say(f"the cluster is up; its kubeconfig: {cluster.kubeconfig}")
    say(f"  {shlex.join((*cluster.entry, kubectl, '--kubeconfig', str(cluster.kubeconfig), 'get', 'pods', '-A'))}")


def load_own_images(cluster: Cluster) -> None:
    archives = own_images.archives()
    for archive in archives:
        cluster.load(archive)
    say(f"{'loaded' if archives else 'pulled from the registry'}: {', '.join(own_images.names())}")


def name_of_a_node(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: at most 32 of a-z, 0-9 and -, such as {DEFAULT}")
    return text


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m kvnode", description=__doc__)
    parser.add_argument("command", choices=("build", "up", "images", "down", "kubeconfig", "status"))
    parser.add_argument("--name", default=DEFAULT, type=name_of_a_node, help=f"which of several (default: {DEFAULT})")
    asked = parser.parse_args(words)
    if asked.command == "build":
        say(str(build.ensure(cache.root())))
        return
    cluster = chosen(asked.name)
    if asked.command == "up":
        cluster.up()
    elif asked.command == "down":
        cluster.down()
        say("the cluster is down")
        return
    elif not cluster.is_up():
        raise NodeFailure("no cluster is up; start it: make cluster")
    if asked.command == "images":
        load_own_images(cluster)
    elif asked.command == "kubeconfig":
        say(str(cluster.kubeconfig))
    else:
        tell_how_to_use(cluster)


if __name__ == "__main__":
    try:
        with unwinding():
            main(sys.argv[1:])
    except NodeFailure as failure:
        raise SystemExit(str(failure)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; nothing was left half started") from None

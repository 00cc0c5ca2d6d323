"""A one-node Kubernetes on this machine.

python -m kvnode up      starts it (builds it first, about 12 minutes, unless the cache has it) and says how to use it
python -m kvnode down    stops it; nothing of it is left but the cache
"""

import argparse
import sys

from kvnode import build, cache
from kvnode.down import down
from kvnode.failure import NodeFailure
from kvnode.node import DEFAULT, Node
from kvnode.up import is_up, up


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the program's output


def tell_how_to_use(node: Node) -> None:
    kubectl = build.folder(cache.root()) / "bin" / "kubectl"
    took = node.ready.read_text()
    say(f"node {node.name} is Ready (it took {took} s); kubeconfig: {node.kubeconfig}")
    say(f"  nsenter --net={node.netns_path} {kubectl} --kubeconfig {node.kubeconfig} get pods -A")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m kvnode", description=__doc__, add_help=True)
    parser.add_argument("command", choices=("build", "up", "down", "kubeconfig", "status"))
    parser.add_argument("--name", default=DEFAULT)
    asked = parser.parse_args(words)
    node = Node(asked.name)
    if asked.command == "build":
        say(str(build.ensure(cache.root())))
    elif asked.command == "up":
        up(asked.name)
        tell_how_to_use(node)
    elif asked.command == "down":
        down(asked.name)
        say(f"node {asked.name} is gone")
    elif not is_up(node):
        raise NodeFailure(f"node {asked.name} is not up; start it: make cluster")
    elif asked.command == "kubeconfig":
        say(str(node.kubeconfig))
    else:
        tell_how_to_use(node)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NodeFailure as failure:
        raise SystemExit(str(failure)) from None

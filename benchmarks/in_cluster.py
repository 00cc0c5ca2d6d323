"""kvpool in a real cluster for a benchmark's length: the one that KUBECONFIG names, or a node started for it."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "node"), str(ROOT / "tests" / "support")]

from install_manifests import program  # noqa: E402 - found only now
from kubectl import Kubectl, own_namespace, until  # noqa: E402
from kvnode import cluster as clusters  # noqa: E402
from kvnode import lifetime, own_images  # noqa: E402
from kvnode.failure import NodeFailure  # noqa: E402
from kvnode.signals import unwinding  # noqa: E402
from pools_in_cluster import POOLS, conditions, engines, installed, pool, simulated, wait_until_ready  # noqa: E402
from streams import Streams, streaming  # noqa: E402

__all__ = [
    "POOLS",
    "Kubectl",
    "Streams",
    "conditions",
    "engines",
    "kvpool_in_cluster",
    "options",
    "own_namespace",
    "pool",
    "simulated",
    "streaming",
    "until",
    "wait_until_ready",
]


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line; ends the program where nothing is to be run."""
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    parser.add_argument("--if-here", action="store_true", help="only where a node can be started at once")
    given = parser.parse_args()
    if given.if_here and not clusters.is_here():
        print(
            f"{parser.prog} is left out: it needs a node; `make test RING=cluster` says what that takes, and brings it"
        )
        sys.exit()
    return given


@contextmanager
def kvpool_in_cluster() -> Iterator[Kubectl]:
    """kubectl for a cluster that has this checkout's images and operator; what was started is ended.

    Ends the program with the reason where there can be none, or where it was told to end.
    """
    try:
        with unwinding():
            archives = own_images.archives()  # a node's own network has no way out to build them
        with lifetime.held("bench") as (cluster,), TemporaryDirectory() as folder:
            for archive in archives:
                cluster.load(archive)
            kubectl = Kubectl(program("kubectl"), cluster.kubeconfig, entry=cluster.entry)
            with installed(kubectl, Path(folder), stays=not os.environ.get("KUBECONFIG")):
                yield kubectl
    except NodeFailure as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("interrupted; what was started for it is ended")

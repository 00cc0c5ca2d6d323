"""The cluster that KUBECONFIG names, and images for it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from control_planes import new_namespace, pool_plane
from kubectl import Kubectl, from_environment, own_namespace
from kvnode import cluster as clusters
from kvnode import images
from kvnode.control_plane import Running
from kvnode.node import Node
from kvnode.signals import unwinding
from kvpool_operator.cluster.kube import KubeCluster, connect
from pools_in_cluster import installed, load_images

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session", autouse=True)
def told_to_end_takes_down_what_it_put_up() -> Iterator[None]:
    """By SIGTERM as by Ctrl-C: nodes of a test's own, and what is installed."""
    with unwinding():
        yield


@pytest.fixture(scope="session")
def admin() -> Kubectl:
    """kubectl in no namespace of its own: `default`, or what a manifest says."""
    return from_environment()


@pytest.fixture
def kubectl(admin: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    with own_namespace(admin) as inside:
        yield inside


@pytest.fixture(scope="session")
def python_image(admin: Kubectl) -> str:
    """An image with Python and nothing else, built here."""
    tag = "localhost/kvpool/python:dev"
    archive = images.build(HERE / "python.Dockerfile", tag)
    clusters.named(admin.kubeconfig).load(archive)
    return tag


@pytest.fixture(scope="session")
def operator_in_cluster(admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl for a cluster in which kvpool is installed as its guide says, with the images of this checkout."""
    load_images(admin.kubeconfig)
    with installed(admin, tmp_path_factory.mktemp("install")):
        yield admin


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A control plane that knows InferencePools, for all tests that leave it as it runs; others bring one of their own.

    The name may be given to another one in a file: `namespace` and `cluster` are there then.
    """
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running:
        yield running


@pytest.fixture
def namespace(plane: Running) -> str:
    return new_namespace(plane)


@pytest.fixture
async def cluster(plane: Running) -> AsyncIterator[KubeCluster]:
    async with connect(plane.kubeconfig) as connected:
        yield connected


@pytest.fixture(scope="session")
def own_node(admin: Kubectl) -> Node:
    """Ours, with root's rights over it; tests of what only such a node shows are skipped elsewhere."""
    found = clusters.named(admin.kubeconfig)
    if not found.entry:
        pytest.skip("the cluster that KUBECONFIG names is no node of our own")
    return Node(admin.kubeconfig.parent.name)

"""The cluster that KUBECONFIG names, and images for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl, from_environment, own_namespace
from kvnode import cluster, images
from kvnode.node import Node
from kvnode.signals import unwinding
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
    cluster.named(admin.kubeconfig).load(archive)
    return tag


@pytest.fixture(scope="session")
def operator_in_cluster(admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl for a cluster in which kvpool is installed as its guide says, with the images of this checkout."""
    load_images(admin.kubeconfig)
    with installed(admin, tmp_path_factory.mktemp("install")):
        yield admin


@pytest.fixture(scope="session")
def own_node(admin: Kubectl) -> Node:
    """Ours, with root's rights over it; tests of what only such a node shows are skipped elsewhere."""
    found = cluster.named(admin.kubeconfig)
    if not found.entry:
        pytest.skip("the cluster that KUBECONFIG names is no node of our own")
    return Node(admin.kubeconfig.parent.name)

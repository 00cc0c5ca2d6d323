"""A release by Helm with a live pool: in a chosen namespace, under the restricted level, upgraded, rolled, uninstalled.

One story, told in order: what kubectl has installed for other tests is deleted first, a live pool with it, and is back
at the end.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm import CHART, Release
from image_layers import relayered, without
from install_manifests import NAMESPACE, ROOT
from kubectl import Kubectl, own_namespace, until
from kvnode import build, cache, cluster, containerd, own_images
from kvnode.node import Node
from kvpool_api.pool import InferencePool
from kvpool_operator.build.engine_pod import engine_pod
from pools_in_cluster import POOLS, conditions, engines, pool, uninstalled, wait_until_ready
from verbs_used import entries

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
CRD = "inferencepools.kvpool.dev"
NEXT = "next"
FORBIDDEN = 403


@dataclass(frozen=True)
class World:
    """A release that watches one namespace, in which `qwen` serves, and is told of no other."""

    release: Release
    watched: Kubectl
    elsewhere: Kubectl
    at_home: Kubectl
    first: str
    """The uid of the engine that release 0.1.0 made."""

    def engine(self) -> dict[str, Any]:
        (found,) = engines(self.watched, "qwen")
        return found

    def operator(self) -> dict[str, Any]:
        (found,) = self.at_home.get("pods", "-l", "app.kubernetes.io/name=kvpool-operator")["items"]
        return found


@pytest.fixture(scope="module")
def left_behind(operator_in_cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A namespace whose pool had an engine when everything was deleted by one command."""
    with own_namespace(operator_in_cluster) as kubectl:
        kubectl.apply(pool("left"))
        until(lambda: engines(kubectl, "left"))
        with uninstalled(operator_in_cluster, tmp_path_factory.mktemp("overlay")):
            assert CRD not in kubectl("get", "crd", "--output", "name")
            assert NAMESPACE not in kubectl("get", "namespaces", "--output", "name")
            yield kubectl


@pytest.fixture(scope="module")
def world(left_behind: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    admin = replace(left_behind, namespace="")
    with (
        own_namespace(admin, RESTRICTED) as home,
        own_namespace(admin, RESTRICTED) as watched,
        own_namespace(admin) as elsewhere,
    ):
        release = Release(admin.kubeconfig, home.namespace, tmp_path_factory.mktemp("helm"))
        images = {"image.registry": own_images.registry(), "image.tag": own_images.tag()}
        values = {**images, "watchNamespaces": f"{{{watched.namespace}}}"}
        release.install(*(f"--set={name}={value}" for name, value in values.items()))
        try:
            watched.apply(pool("qwen", replicas=1))
            elsewhere.apply(pool("unseen", replicas=1))
            wait_until_ready(watched)
            (engine,) = engines(watched, "qwen")
            yield World(release, watched, elsewhere, home, engine["metadata"]["uid"])
        finally:
            admin("delete", "crd", CRD, "--ignore-not-found")


def test_in_a_chosen_namespace_under_the_restricted_level_a_pool_is_all_well(world: World):
    found = conditions(world.watched, "qwen")
    assert {kind: each["status"] for kind, each in found.items() if kind in ("Ready", "KVEventsFlowing")} == {
        "Ready": "True",
        "KVEventsFlowing": "True",
    }
    assert world.engine()["spec"]["securityContext"]["runAsUser"] == 2000


def test_an_engine_with_vllms_own_image_is_admitted_under_the_restricted_level(world: World):
    told = {**pool("stock"), "spec": {"model": {"name": "Qwen/Qwen3-8B"}}}
    told["metadata"] = {"name": "stock", "namespace": world.watched.namespace, "uid": "0"}
    made = engine_pod(InferencePool.model_validate(told), 0, "1")
    admitted = world.watched("create", "--dry-run=server", "--output=json", "-f", "-", stdin=json.dumps(made))
    assert json.loads(admitted)["spec"]["securityContext"]["runAsUser"] == 2000


def test_nothing_is_asked_for_outside_the_chosen_namespace_and_nothing_refused(world: World, own_node: Node):
    assert world.elsewhere.get("pods")["items"] == []
    assert "status" not in world.elsewhere.get(POOLS, "unseen")
    account = f"system:serviceaccount:{world.release.namespace}:kvpool-operator"
    asked = [entry for entry in entries(own_node.audit_log, account) if "objectRef" in entry]
    assert {entry["objectRef"].get("namespace") for entry in asked} == {world.watched.namespace}
    assert [entry for entry in asked if entry["responseStatus"]["code"] == FORBIDDEN] == []


def test_an_upgrade_that_changes_nothing_replaces_nothing(world: World):
    before = world.operator()["metadata"]["uid"]
    world.release.upgrade()
    assert world.operator()["metadata"]["uid"] == before


@pytest.fixture(scope="module")
def upgraded(world: World, own_node: Node, tmp_path_factory: pytest.TempPathFactory) -> World:
    """To a next release: its chart, its CRD with one more field, an operator that builds engines otherwise."""
    folder = tmp_path_factory.mktemp("next")
    own_node_takes_next_images(own_node, folder)
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    (chart / "Chart.yaml").write_text(
        re.sub(r"[vV]ersion: 0.1.0", r"version: 0.2.0", (CHART / "Chart.yaml").read_text())
    )
    crd = yaml.safe_load((CHART / "files/inferencepools.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["brandNew"] = {"type": "string"}
    (chart / "files/inferencepools.yaml").write_text(yaml.safe_dump(crd))
    world.release.upgrade(f"--set=image.tag={NEXT}", chart=chart)
    return world


def own_node_takes_next_images(node: Node, folder: Path) -> None:
    """The router's is the same by another name; the operator's has another builder revision."""
    names = own_images.names()
    archive = next(path for path, name in zip(own_images.archives(), names, strict=True) if "/operator:" in name)
    package = "opt/kvpool/packages/kvpool_operator"
    settings = (ROOT / "operator/kvpool_operator/settings.py").read_text()
    changed = re.sub(r'(builder_revision: str = ")', rf"\1{NEXT}-", settings)
    assert changed != settings
    compiled = without(f"{package}/__pycache__")
    files = {f"{package}/settings.py": changed.encode(), **compiled}
    operator = relayered(archive, f"localhost/kvpool/operator:{NEXT}", files, folder / "operator.tar")
    cluster.named(node.kubeconfig).load(operator)
    ctr = containerd.ctr(build.folder(cache.root()) / "bin", node)
    tags = (own_images.named("router"), f"localhost/kvpool/router:{NEXT}")
    subprocess.run([*ctr, "images", "tag", "--force", *tags], check=True, capture_output=True)


def test_an_upgrade_brings_the_new_crd_and_operator_and_keeps_every_engine(upgraded: World):
    (container,) = upgraded.operator()["spec"]["containers"]
    assert container["image"].endswith(f":{NEXT}")
    upgraded.watched("explain", f"{POOLS}.spec.brandNew")

    def outdated() -> object:
        return upgraded.watched.get(POOLS, "qwen")["status"].get("outdatedReplicas")

    until(lambda: outdated() == 1, otherwise=outdated)
    engine = upgraded.engine()
    assert engine["metadata"]["uid"] == upgraded.first
    assert "deletionTimestamp" not in engine["metadata"]
    assert engine["status"]["containerStatuses"][0]["restartCount"] == 0


def test_asked_to_the_upgraded_operator_rolls_its_engines(upgraded: World):
    asked = {"spec": {"rollout": {"onOperatorUpgrade": "Roll"}}}
    upgraded.watched("patch", POOLS, "qwen", "--type=merge", f"--patch={json.dumps(asked)}")

    def made_anew() -> bool:
        found = [each["metadata"] for each in engines(upgraded.watched, "qwen")]
        return [each["annotations"]["kvpool.dev/builder-revision"][:5] for each in found] == [f"{NEXT}-"]

    until(made_anew, otherwise=lambda: upgraded.watched("get", "pods", "--output=wide"))
    said = upgraded.watched.events("qwen")
    assert any(re.search(rf"built by revision \S+, now {NEXT}-", each) for each in said), said


def test_the_chart_is_uninstalled_though_its_operator_is_gone_and_pools_serve_on(upgraded: World):
    engine = upgraded.engine()["metadata"]["uid"]
    upgraded.at_home("delete", "deployment", "kvpool-operator")
    assert f"[CustomResourceDefinition] {CRD}" in upgraded.release.uninstall()
    assert upgraded.engine()["metadata"]["uid"] == engine
    assert "brandNew" in json.dumps(upgraded.watched.get("crd", CRD)), "the CRD stays, and pools with it"
    kept = upgraded.at_home("get", "clusterroles,clusterrolebindings", "--output=name")
    assert [name for name in kept.split() if re.search(r"/kvpool-(operator|edit|view)$", name)] == []


def test_a_pool_is_deleted_with_all_that_it_owns_though_no_operator_runs(upgraded: World):
    upgraded.watched("delete", POOLS, "qwen")

    def staying() -> list[str]:
        pods = upgraded.watched.get("pods")["items"]
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    until(lambda: not staying(), otherwise=staying)


def test_of_the_pool_that_lived_when_everything_was_deleted_at_once_nothing_is_left(left_behind: Kubectl):
    """Last, since the garbage collector may take half a minute to learn that a whole kind is gone."""

    def what_is_left() -> str:
        kinds = "pods,deployments,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pdb"
        return left_behind("get", kinds, "-l", "kvpool.dev/pool=left", "--output", "name")

    until(lambda: not what_is_left(), otherwise=what_is_left)

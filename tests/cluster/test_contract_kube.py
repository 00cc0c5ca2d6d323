"""The contract of the Cluster seam on a real API server, and what else the operator relies on there."""

import asyncio
import gc
import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cluster_contract import ClusterContract, Forget, config_map, gone, never_scheduled_pod, pool, ref
from control_planes import NAMESPACES, forget_versions_before, kubectl_of, pool_plane, restart_api_server
from eventually import eventually
from kubernetes.aio.config import incluster_config
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster, Pace, connect
from kvpool_operator.cluster.seam import Forbidden, NamespaceEnding, NotFound, Ref, Refused, Unavailable
from kvpool_operator.manifests import name_of
from kvpool_operator.watching import changes

# A TLS connection to a server that is killed can stay half open in asyncio for longer than a test's loop lives.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running:
        yield running
    gc.collect()  # what is left of such connections is found here, and not in the test of somebody else


class TestKubeCluster(ClusterContract):
    @pytest.fixture
    def forgotten(self, plane: Running, cluster: KubeCluster, namespace: str) -> Forget:
        async def forget(version: str) -> None:
            for turn in range(5):
                filler = config_map("filler", namespace, data={"turn": str(turn)})
                last: Any = await cluster.apply(filler, manager="m", force=True)
            await asyncio.to_thread(forget_versions_before, plane, last["metadata"]["resourceVersion"])

        return forget


# what the API server says, and what it means


async def test_a_long_list_comes_in_pages(plane: Running, namespace: str):
    async with connect(plane.kubeconfig, pace=Pace(page=3)) as cluster:
        for turn in range(8):
            await cluster.create(config_map(f"c-{turn}", namespace, labels={"x": "1"}), manager="m")
        listing: Any = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels={"x": "1"})
    assert [item["metadata"]["name"] for item in listing.items] == [f"c-{turn}" for turn in range(8)]
    assert int(listing.resource_version) > 0


async def test_a_quiet_watch_that_the_server_ends_goes_on(plane: Running, namespace: str):
    async with connect(plane.kubeconfig, pace=Pace(watch_s=1.0)) as cluster:
        listing = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels={"x": "1"})
        changes = cluster.watch(
            seam.CONFIG_MAP, namespace=namespace, labels={"x": "1"}, resource_version=listing.resource_version
        )
        told: Any = asyncio.ensure_future(anext(changes))
        begun = len(watches(plane, namespace))
        await eventually(lambda: len(watches(plane, namespace)) >= begun + 3)
        await cluster.create(config_map("late", namespace, labels={"x": "1"}), manager="m")
        assert (await told).object["metadata"]["name"] == "late"
        await changes.aclose()


def watches(plane: Running, namespace: str) -> list[dict[str, Any]]:
    """Watches of ConfigMaps there that have ended."""
    entries = (json.loads(line) for line in plane.audit_log.read_text().splitlines() if namespace in line)
    return [entry for entry in entries if entry["verb"] == "watch" and entry["stage"] == "ResponseComplete"]


async def test_news_go_on_after_the_api_server_was_away(plane: Running, cluster: KubeCluster, namespace: str):
    labels = {"only": namespace}
    await cluster.create(config_map("a", namespace, labels=labels), manager="m")
    heard: list[str] = []

    async def follow() -> None:
        nonlocal heard
        async for change in changes(cluster, seam.CONFIG_MAP, labels, re_list_s=0.1):
            heard += [name_of(change.object)]

    following = asyncio.ensure_future(follow())
    await eventually(lambda: heard == ["a"])
    plane.kill("kube-apiserver")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await cluster.get(Ref(seam.CONFIG_MAP, namespace, "a"))
    await asyncio.to_thread(restart_api_server, plane)
    await cluster.create(config_map("b", namespace, labels=labels), manager="m")
    await eventually(lambda: heard[-1] == "b", within_s=30)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_paused_api_server_costs_one_deadline(plane: Running, namespace: str):
    async with connect(plane.kubeconfig, pace=Pace(call_s=1.0)) as cluster:
        plane.pause("kube-apiserver")
        try:
            with pytest.raises(Unavailable, match="in time"):
                await cluster.create(config_map("a", namespace), manager="m")
        finally:
            plane.resume("kube-apiserver")
        await cluster.apply(config_map("a", namespace), manager="m", force=True)


async def test_a_service_account_is_known_by_its_files_and_read_again(
    plane: Running, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = json.loads(plane.kubeconfig.read_text())
    (tmp_path / "ca.crt").write_bytes(b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    (tmp_path / "token").write_text("an old one")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", plane.plane.addresses.api)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.plane.addresses.api_port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    async with connect() as cluster:
        with pytest.raises(Unavailable, match="does not accept our credentials"):
            await cluster.list(seam.POD, namespace=namespace, labels={})
        (tmp_path / "token").write_text(config["users"][0]["user"]["token"])
        assert (await cluster.list(seam.POD, namespace=namespace, labels={})).items == ()


async def test_a_quota_is_a_refusal_in_the_servers_words(plane: Running, cluster: KubeCluster, namespace: str):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}
    Api(plane.kubeconfig).post(f"{NAMESPACES}/{namespace}/resourcequotas", quota)

    async def until_refused() -> None:
        """The API server hears of a new quota a moment later."""
        while True:
            await cluster.create(never_scheduled_pod(f"p-{uuid4().hex[:8]}", namespace), manager="m")

    with pytest.raises(Refused, match="exceeded quota: few") as told:
        await until_refused()
    assert type(told.value) is Refused


async def test_a_policy_is_a_refusal_in_the_servers_words(plane: Running, cluster: KubeCluster):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "strict-", "labels": labels}}
    name = json.loads(Api(plane.kubeconfig).post(NAMESPACES, made))["metadata"]["name"]
    await there(cluster, Ref(seam.SERVICE_ACCOUNT, name, "default"))
    with pytest.raises(Refused, match=r'violates PodSecurity "restricted:latest"') as told:
        await cluster.create(never_scheduled_pod("a", name), manager="m")
    assert type(told.value) is Refused


async def test_a_lacking_permission_names_verb_and_resource(plane: Running, namespace: str, tmp_path: Path):
    async with connect(stranger(plane, namespace, tmp_path)) as cluster:
        told = {
            "list pods in namespace": cluster.list(seam.POD, namespace=namespace, labels={}),
            "list pods in all namespaces": cluster.list(seam.POD, namespace=None, labels={}),
            "patch inferencepools/status.kvpool.dev": cluster.apply(
                {**pool("p", namespace), "status": {}}, manager="m", force=True, subresource="status"
            ),
            "get pods/log": cluster.ended_log(Ref(seam.POD, namespace, "p"), container="main", lines=1),
        }
        for words, call in told.items():
            with pytest.raises(Forbidden, match=f"may not {words}"):
                await call


def stranger(plane: Running, namespace: str, folder: Path) -> Path:
    """A kubeconfig of a service account that may do nothing."""
    path = f"{NAMESPACES}/{namespace}/serviceaccounts/default/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = json.loads(Api(plane.kubeconfig).post(path, request))["status"]["token"]
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    (folder / "kubeconfig").write_text(json.dumps(config))
    return folder / "kubeconfig"


async def test_in_a_namespace_that_is_ending_nothing_is_made_and_nobody_is_to_blame(
    plane: Running, cluster: KubeCluster, namespace: str
):
    kept = config_map("kept", namespace, finalizers=["kvpool.dev/test"])
    await cluster.create(kept, manager="m")
    kubectl_of(plane)("delete", "namespace", namespace, "--wait=false")
    for call in (
        cluster.create(config_map("new", namespace), manager="m"),
        cluster.apply(config_map("new", namespace), manager="m", force=True),
    ):
        with pytest.raises(NamespaceEnding, match="being terminated"):
            await call
    await cluster.apply(config_map("kept", namespace), manager="m2", force=True)


async def test_a_namespace_that_is_not_there_is_not_found(cluster: KubeCluster):
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await cluster.create(config_map("a", "nowhere"), manager="m")


async def test_a_kind_that_is_not_installed_points_to_the_definition(plane: Running, cluster: KubeCluster):
    strange = seam.Kind("kvpool.dev/v1alpha1", "ScalingPolicy", "scalingpolicies")
    with pytest.raises(NotFound, match="is the CustomResourceDefinition installed"):
        await cluster.list(strange, namespace=None, labels={})


async def test_the_log_of_a_pod_without_a_node_is_empty(cluster: KubeCluster, namespace: str):
    made: Any = await cluster.create(never_scheduled_pod("a", namespace), manager="m")
    assert await cluster.ended_log(ref(made), container="main", lines=10) == ""
    await cluster.delete(ref(made), uid=made["metadata"]["uid"], grace_s=0)
    await gone(cluster, ref(made))


async def there(cluster: KubeCluster, wanted: Ref) -> None:
    async def found() -> bool:
        with suppress(NotFound):
            return bool(await cluster.get(wanted))
        return False

    await eventually(found)

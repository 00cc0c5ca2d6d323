"""A pool takes, changes and deletes nothing that is not its own, and keeps what is: on a real API server."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from cluster_contract import gone
from control_planes import kubectl_of
from kubectl import Kubectl
from kvnode.control_plane import Running
from kvpool_api.labels import POOL
from kvpool_api.manifest import as_map, without
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import Manifest, Ref
from kvpool_operator.loop import Deps, reconcile
from kvpool_operator.manifests import is_terminating, name_of, uid_of
from kvpool_operator.ownership import controller
from kvpool_operator.settings import Settings
from store_cluster import Routers

SETTINGS = Settings()
TEMPLATE = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
DEPLOYMENT = {"replicas": 0, "selector": {"matchLabels": {"app": "theirs"}}, "template": TEMPLATE}
THEIRS: Mapping[tuple[str, str], Manifest] = {
    ("Service", "prec"): {"spec": {"selector": {"app": "postgres"}, "ports": [{"name": "sql", "port": 5432}]}},
    ("Secret", "prec-admin"): {"stringData": {"password": "theirs"}},
    ("ConfigMap", "prec-router"): {"data": {"x": "1"}},
    ("ServiceAccount", "prec-router"): {},
    ("Deployment", "prec-router"): {"spec": DEPLOYMENT},
}


@pytest.fixture
def kubectl(plane: Running, namespace: str) -> Kubectl:
    return kubectl_of(plane, namespace)


class Pools:
    """What a user and an operator do in one namespace."""

    def __init__(self, cluster: KubeCluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self._deps = Deps(cluster, Routers(), SETTINGS)

    def ref(self, kind: str, name: str) -> Ref:
        return Ref(seam.KINDS[kind], self.namespace, name)

    async def makes(self, kind: str, name: str, whole: Manifest) -> Manifest:
        head = {"apiVersion": seam.KINDS[kind].api_version, "kind": kind}
        manifest: Manifest = {**head, "metadata": {"name": name, "namespace": self.namespace}, **whole}
        return await self.cluster.apply(manifest, manager="user", force=True)

    async def applies(self, pool: str) -> Manifest:
        return await self.makes("InferencePool", pool, {"spec": {"model": {"name": "m"}}})

    async def round(self, pool: str) -> float | None:
        """When the operator looks again, in seconds from now."""
        again = await reconcile(self._deps, self.ref("InferencePool", pool))
        return None if again is None else again - time.time()

    async def conditions(self, pool: str) -> dict[str, Any]:
        found: Any = await self.cluster.get(self.ref("InferencePool", pool))
        return {each["type"]: each for each in found["status"]["conditions"]}

    async def deletes(self, pool: str) -> None:
        wanted = self.ref("InferencePool", pool)
        await self.cluster.delete(wanted, uid=uid_of(await self.cluster.get(wanted)))
        await gone(self.cluster, wanted)

    async def owned(self) -> list[Manifest]:
        """All that a pool controls."""
        kinds = [kind for kind in seam.KINDS.values() if kind is not seam.EVENT]
        lists = [await self.cluster.list(kind, namespace=self.namespace, labels={}) for kind in kinds]
        return [item for listing in lists for item in listing.items if controller(item).get("kind") == "InferencePool"]


@pytest.fixture
def pools(cluster: KubeCluster, namespace: str) -> Pools:
    return Pools(cluster, namespace)


async def test_what_a_user_has_under_a_pools_names_stays_as_it_is_and_outlives_the_pool(pools: Pools):
    before = [await pools.makes(kind, name, whole) for (kind, name), whole in THEIRS.items()]
    await pools.applies("prec")
    for _ in range(2):
        assert 10 < (await pools.round("prec") or 0) <= SETTINGS.refused_retry_s
    found = await pools.conditions("prec")
    assert {kind: found[kind]["status"] for kind in ("Accepted", "Ready", "Degraded")} == {
        "Accepted": "False",
        "Ready": "False",
        "Degraded": "True",
    }
    assert found["Accepted"]["reason"] == found["Degraded"]["reason"] == "NameTaken"
    assert found["Accepted"]["message"].startswith("Secret prec-admin, ServiceAccount prec-router")
    assert await pools.owned() == []
    await pools.deletes("prec")
    for made in before:
        kept = await pools.cluster.get(pools.ref(str(made["kind"]), name_of(made)))
        assert _settled(kept) == _settled(made)


def _settled(manifest: Manifest) -> Manifest:
    """Without what the Deployment's controller writes of it."""
    meta = as_map(manifest["metadata"])
    kept = {key: meta.get(key) for key in ("uid", "labels", "ownerReferences")}
    return {**without(manifest, "metadata", "status"), "metadata": kept}


async def test_a_taken_name_is_told_in_an_event_and_taken_once_it_is_free(pools: Pools):
    service = await pools.makes("Service", "taken", THEIRS[("Service", "prec")])
    await pools.applies("taken")
    await pools.round("taken")
    told = (await pools.cluster.list(seam.EVENT, namespace=pools.namespace, labels={})).items
    assert {(str(each["type"]), str(each["reason"])) for each in told} == {("Warning", "NameTaken")}
    await pools.cluster.delete(pools.ref("Service", "taken"), uid=uid_of(service))
    await pools.round("taken")
    assert (await pools.conditions("taken"))["Accepted"]["status"] == "True"
    assert len(await pools.owned()) == 12, "ten children, a Secret and an engine"


async def test_the_api_servers_own_service_keeps_its_endpoints_and_stays(cluster: KubeCluster):
    pools = Pools(cluster, "default")
    service = pools.ref("Service", "kubernetes")
    before = await cluster.get(service)
    await pools.applies("kubernetes")
    try:
        await pools.round("kubernetes")
        assert "Service kubernetes" in (await pools.conditions("kubernetes"))["Accepted"]["message"]
    finally:
        await pools.deletes("kubernetes")
    assert await cluster.get(service) == before


async def test_what_orphaning_a_pool_leaves_is_the_next_ones_and_goes_with_it(pools: Pools, kubectl: Kubectl):
    await pools.applies("orp")
    await pools.round("orp")
    owned = {(each["kind"], name_of(each)): uid_of(each) for each in await pools.owned()}
    kubectl("delete", "inferencepools.kvpool.dev", "orp", "--cascade=orphan")
    await gone(pools.cluster, pools.ref("InferencePool", "orp"))
    assert await pools.owned() == []
    pool = await pools.applies("orp")
    await pools.round("orp")
    again = await pools.owned()
    assert {(each["kind"], name_of(each)): uid_of(each) for each in again} == owned
    assert {controller(each)["uid"] for each in again} == {uid_of(pool)}
    await pools.round("orp")
    assert (await pools.conditions("orp"))["Accepted"]["status"] == "True"
    await pools.deletes("orp")
    await _all_end(pools)


async def _all_end(pools: Pools) -> None:
    """Nothing is left but what nodes have yet to end."""
    end = time.monotonic() + 30
    while left := [name_of(each) for each in await pools.owned() if not is_terminating(each)]:
        assert time.monotonic() < end, left
        await asyncio.sleep(0.1)


async def test_an_engine_that_lost_its_label_gets_it_again_and_is_told_once(pools: Pools, kubectl: Kubectl):
    await pools.applies("h1")
    await pools.round("h1")
    (pod,) = [each for each in await pools.owned() if each["kind"] == "Pod"]
    kubectl("label", "pod", name_of(pod), f"{POOL}-")
    assert 10 < (await pools.round("h1") or 0) <= SETTINGS.refused_retry_s
    again: Any = await pools.cluster.get(pools.ref("Pod", name_of(pod)))
    assert (uid_of(again), again["metadata"]["labels"][POOL]) == (uid_of(pod), "h1")
    await pools.round("h1")
    told: Any = (await pools.cluster.list(seam.EVENT, namespace=pools.namespace, labels={})).items
    assert [each["count"] for each in told if each["reason"] == "Adopted"] == [1]

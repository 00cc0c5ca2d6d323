"""Deployments become Pods; routers share the pool's door."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cluster_contract import deployment, gone, ref
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.local.deployments import _surplus
from kvpool_operator.cluster.local.door import Doors
from kvpool_operator.cluster.seam import Ref
from local_clusters import IMAGES, about, eventually, free_pair, local_cluster, ready_pod, tiny_pod

FIELD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def router_container(*further: str) -> dict[str, Any]:
    return {
        "name": "router",
        "image": "kvpool",
        "args": ["--listen", "$(POD_IP):8000", *further],
        "env": [FIELD_IP],
        "ports": [{"name": "http", "containerPort": 8000}, {"name": "admin", "containerPort": 8001}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
    }


def router(pool: str, *further: str, replicas: int = 1) -> dict[str, Any]:
    manifest = deployment(f"{pool}-router", "default", router_container(*further), replicas=replicas)
    labels = {"kvpool.dev/pool": pool, "kvpool.dev/role": "router"}
    manifest["spec"]["selector"] = {"matchLabels": labels}
    manifest["spec"]["template"]["metadata"]["labels"] = labels
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 5
    return manifest


def service(pool: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{pool}-router", "namespace": "default"},
        "spec": {
            "selector": {"kvpool.dev/pool": pool, "kvpool.dev/role": "router"},
            "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
        },
    }


@pytest.fixture
def port() -> int:
    return free_pair()


@pytest.fixture
async def cluster(tmp_path: Path, port: int) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "run", port=port) as cluster:
        yield cluster


async def pods_of(cluster: LocalCluster, pool: str) -> list[dict[str, Any]]:
    listing = await cluster.list(seam.POD, namespace="default", labels={"kvpool.dev/pool": pool})
    return [dict(item) for item in listing.items]


async def settled(cluster: LocalCluster, name: str, replicas: int) -> dict[str, Any]:
    """The Deployment, once all its replicas are ready, up to date and alone."""

    async def is_settled() -> dict[str, Any] | None:
        found: Any = await cluster.get(Ref(seam.DEPLOYMENT, "default", name))
        status = found.get("status", {})
        counts = (status.get("readyReplicas"), status.get("updatedReplicas"), status.get("replicas"))
        is_current = status.get("observedGeneration") == found["metadata"]["generation"]
        return dict(found) if counts == (replicas, replicas, replicas) and is_current else None

    return await eventually(is_settled)


async def test_routers_of_a_pool_are_told_its_door_and_have_addresses_of_their_own(cluster: LocalCluster, port: int):
    await cluster.apply(service("q"), manager="m", force=True)
    assert cluster.address_of("default", "q-router") is None
    await cluster.apply(router("q", replicas=2), manager="m", force=True)
    made = await settled(cluster, "q-router", 2)
    assert made["status"]["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Available",
        "status": "True",
        "reason": "MinimumReplicasAvailable",
        "lastTransitionTime": "",
    }
    addresses = {pod["status"]["podIP"] for pod in await pods_of(cluster, "q")}
    assert len(addresses - {"127.0.0.1"}) == 2
    assert cluster.address_of("default", "q-router") == ("127.0.0.1", port)
    assert cluster.address_of("default", "q-router", "admin") == ("127.0.0.1", port + 1)
    assert cluster.address_of("default", "nobody") is None
    for address in addresses:
        assert (await about(f"http://{address}:8000"))["env"]["KVPOOL_SHARED_PORT"] == str(port)


async def told_to(cluster: LocalCluster, pool: str) -> Any:  # noqa: ANN401 - JSON
    """Arguments and environment of the pool's first router."""
    return await about(f"http://{(await pods_of(cluster, pool))[0]['status']['podIP']}:8000")


async def test_a_router_is_told_who_is_in_its_pool(cluster: LocalCluster):
    await cluster.apply(router("q"), manager="m", force=True)
    await settled(cluster, "q-router", 1)
    members = Path((await told_to(cluster, "q"))["env"]["KVPOOL_MEMBERSHIP_FILE"])

    def names(role: str = "engine") -> list[str]:
        listed = json.loads(members.read_text())
        assert (listed["apiVersion"], listed["kind"]) == ("v1", "PodList")
        found = [item["metadata"] for item in listed["items"]]
        return [each["name"] for each in found if each["labels"]["kvpool.dev/role"] == role]

    assert names() == []
    assert len(names("router")) == 1
    engine = tiny_pod("e0")
    engine["metadata"]["labels"] = {"kvpool.dev/pool": "q", "kvpool.dev/role": "engine"}
    made = await cluster.apply(engine, manager="m", force=True)
    await ready_pod(cluster, "e0")

    async def listed() -> bool:
        found = json.loads(members.read_text())["items"]  # noqa: ASYNC240
        engines = [each for each in found if each["metadata"]["name"] == "e0"]
        return bool(engines) and "True" in str(engines[0].get("status", {}).get("conditions"))

    await eventually(listed)
    assert names() == ["e0"]
    await cluster.delete(ref(made), uid=str(made["metadata"]["uid"]))
    await gone(cluster, ref(made))

    async def empty() -> bool:
        return names() == []

    await eventually(empty)


async def test_a_changed_template_recreates_replicas_one_at_a_time(cluster: LocalCluster):
    await cluster.apply(router("q", replicas=2), manager="m", force=True)
    await settled(cluster, "q-router", 2)
    before = {pod["metadata"]["uid"] for pod in await pods_of(cluster, "q")}
    await cluster.apply(router("q", "--say", "new", replicas=2), manager="m", force=True)
    fewest = 2

    async def replaced() -> bool:
        nonlocal fewest
        pods = await pods_of(cluster, "q")
        fewest = min(fewest, sum("deletionTimestamp" not in pod["metadata"] for pod in pods))
        return before.isdisjoint(pod["metadata"]["uid"] for pod in pods) and len(pods) == 2

    await eventually(replaced)
    await settled(cluster, "q-router", 2)
    assert fewest >= 1
    assert (await told_to(cluster, "q"))["argv"][-1] == "new"


async def test_replicas_come_and_go_with_the_number_asked(cluster: LocalCluster):
    for replicas in (1, 3, 1, 0):
        await cluster.apply(router("q", replicas=replicas), manager="m", force=True)
        await settled(cluster, "q-router", replicas)

        async def only_those(replicas: int = replicas) -> bool:
            return len(await pods_of(cluster, "q")) == replicas

        await eventually(only_those)


async def test_a_deleted_deployment_takes_its_pods_along_and_frees_its_door(cluster: LocalCluster, port: int):
    for _ in range(2):
        made: Any = await cluster.apply(router("q"), manager="m", force=True)
        await settled(cluster, "q-router", 1)
        (pod,) = await pods_of(cluster, "q")
        assert (await told_to(cluster, "q"))["env"]["KVPOOL_SHARED_PORT"] == str(port)
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])
        await gone(cluster, ref(pod))


async def test_a_second_pool_gets_the_next_free_door(cluster: LocalCluster):
    for pool in ("q", "r"):
        await cluster.apply(service(pool), manager="m", force=True)
        await cluster.apply(router(pool), manager="m", force=True)
        await settled(cluster, f"{pool}-router", 1)
    (_, first), (_, second) = (cluster.address_of("default", f"{pool}-router") or ("", 0) for pool in ("q", "r"))
    assert second > first + 1


async def test_a_pod_that_runs_no_router_is_left_as_it_is(cluster: LocalCluster):
    plain = {"name": "web", "image": "tiny", "args": ["--listen", "$(POD_IP):80"], "env": [FIELD_IP]}
    stranger = {"name": "unknown", "image": "registry.invalid/x:1"}
    await cluster.apply(deployment("web", "default", plain, stranger, replicas=1), manager="m", force=True)

    async def made() -> dict[str, Any] | None:
        listing = await cluster.list(seam.POD, namespace="default", labels={"app": "web"})
        return dict(listing.items[0]) if listing.items else None

    pod = await eventually(made)
    assert pod["spec"]["containers"] == [plain, stranger]


def replica(number: int, template: str, *, ready: bool = True, terminating: bool = False) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"r{number}",
            "labels": {"pod-template-hash": template},
            "annotations": {"kvpool.dev/local-replica": str(number)},
            **({"deletionTimestamp": "now"} if terminating else {}),
        },
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@pytest.mark.parametrize(
    ("pods", "wanted", "deleted"),
    [
        ([replica(0, "new"), replica(1, "new")], 2, []),
        ([replica(0, "old"), replica(1, "old")], 2, ["r0"]),
        ([replica(0, "old"), replica(1, "old", ready=False)], 2, ["r1"]),
        ([replica(0, "new", ready=False), replica(1, "old")], 2, []),
        ([replica(0, "new"), replica(1, "old", terminating=True)], 2, []),
        ([replica(1, "old")], 2, []),
        ([replica(0, "new"), replica(1, "new"), replica(2, "old")], 1, ["r1", "r2"]),
    ],
)
def test_one_outdated_replica_goes_while_all_others_serve(pods: list[dict[str, Any]], wanted: int, deleted: list[str]):
    by_replica = {int(pod["metadata"]["annotations"]["kvpool.dev/local-replica"]): pod for pod in pods}
    assert [pod["metadata"]["name"] for pod in _surplus(by_replica, wanted, "new")] == deleted


def test_a_door_whose_deployment_is_gone_is_free_again(tmp_path: Path):
    port = free_pair()
    doors = Doors(IMAGES, lambda pool: tmp_path / "-".join(pool), port)

    def door(uid: str) -> int:
        owner = {"metadata": {"name": "d", "namespace": "default", "uid": uid}}
        pod: Any = doors.placed(owner, {"metadata": {}, "spec": {"containers": [router_container()]}})
        told = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
        return int(told["KVPOOL_SHARED_PORT"])

    assert door("a") == door("a") == port
    assert door("b") != port
    doors.reconcile([{"metadata": {"name": "d", "uid": "b"}}])
    assert door("c") == port

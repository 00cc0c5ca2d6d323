"""Many engines and little room: what an API server is asked for, told by its audit log."""

import asyncio
import json
from contextlib import suppress
from datetime import datetime
from itertools import pairwise

from control_planes import NAMESPACES
from eventually import eventually
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.loop import Deps, run_pool
from kvpool_operator.settings import Settings
from store_cluster import Routers

SOON = Settings(refused_retry_s=0.5)


def asked(plane: Running, namespace: str) -> list[tuple[float, int]]:
    """Each engine Pod that was to be made: when, and what the API server answered."""
    entries = (json.loads(line) for line in plane.audit_log.read_text().splitlines())
    return [
        (datetime.fromisoformat(each["requestReceivedTimestamp"]).timestamp(), each["responseStatus"]["code"])
        for each in entries
        if each["verb"] == "patch" and each["requestURI"].startswith(f"{NAMESPACES}/{namespace}/pods/big-")
    ]


async def room_for(plane: Running, namespace: str, pods: int) -> None:
    path = f"{NAMESPACES}/{namespace}/resourcequotas"
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    api = Api(plane.kubeconfig)
    api.post(path, {**quota, "spec": {"hard": {"pods": str(pods)}}})
    await eventually(lambda: json.loads(api.get(f"{path}/few")).get("status", {}).get("used"), within_s=30)


async def test_a_quota_is_asked_about_a_few_times_and_ever_more_seldom(
    plane: Running, cluster: KubeCluster, namespace: str
):
    await room_for(plane, namespace, 2)
    pool = {"apiVersion": "kvpool.dev/v1alpha1", "kind": "InferencePool", "metadata": {"name": "big"}}
    pool["metadata"]["namespace"] = namespace
    spec = {"model": {"name": "m"}, "replicas": 200, "router": {"replicas": 1}}
    await cluster.apply({**pool, "spec": spec}, manager="user", force=False)
    deps = Deps(cluster, Routers(), SOON)
    rounds = asyncio.create_task(run_pool(deps, Ref(seam.POOL, namespace, "big"), asyncio.Event()))

    def has_waited_long() -> bool:
        refused_at = [at for at, code in asked(plane, namespace) if code == 403]
        return any(later - earlier > 0.95 * SOON.refused_retry_s * 2**2 for earlier, later in pairwise(refused_at))

    try:
        await eventually(has_waited_long, within_s=60)
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds
    codes = [code for _, code in asked(plane, namespace)]
    assert 1 <= codes.count(201) <= 2  # the router's Pod may have come first
    assert codes.count(403) <= 7  # at most three until all that was made is seen, then after 0.5, 1 and 2 s
    (made,) = [
        e for e in (await cluster.list(seam.EVENT, namespace=namespace, labels={})).items if e["reason"] == "Created"
    ]
    assert "big-" in str(made["message"])

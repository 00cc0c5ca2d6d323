"""A pool at rest writes nothing: what the operator builds and what an API server makes of it say the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_planes import written_since
from eventually import eventually
from kvnode.control_plane import Running
from kvpool_api.conditions import Condition
from kvpool_api.labels import FIELD_MANAGER_CHILDREN
from kvpool_api.status import InferencePoolStatus
from kvpool_operator.build.children import children
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.kube.paths import ref_of
from kvpool_operator.cluster.seam import Manifest, Ref
from kvpool_operator.loop import Deps, reconcile
from kvpool_operator.observe import engine_of, pool_of
from kvpool_operator.plan.children import drift
from kvpool_operator.plan.template import CurrentTemplate
from kvpool_operator.report import report
from kvpool_operator.settings import Settings
from pool_world import T0
from store_cluster import Routers

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings()
RICH: Manifest = {
    "model": {"name": "Qwen/Qwen3-32B", "source": {"hub": {"revision": "main"}}, "servedNames": ["qwen"]},
    "engine": {"args": ["--max-model-len=8192"], "env": [{"name": "A", "value": "1"}]},
    "resources": {"limits": {"nvidia.com/gpu": 2, "memory": "64Gi"}, "requests": {"cpu": "4000m"}},
    "replicas": 3,
    "router": {
        "replicas": 2,
        "resources": {"limits": {"cpu": "1500m", "memory": "1024Mi"}},
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}},
            "spec": {
                "imagePullSecrets": [{"name": "registry"}],
                "nodeSelector": {"pool": "cpu"},
                "tolerations": [{"key": "cpu", "operator": "Exists"}],
                "hostNetwork": False,
                "containers": [
                    {"name": "router", "env": [{"name": "EMPTY", "value": ""}]},
                    {"name": "more", "image": "i", "resources": {"limits": {"memory": "1024Mi", "cpu": "0.5"}}},
                ],
            },
        },
    },
    "rollout": {"maxSurge": 2, "maxUnavailable": 1},
    "podTemplate": {
        "metadata": {"labels": {"team": "a"}},
        "spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"gpu": "h100"}},
    },
}


def example_pools() -> Iterator[Any]:
    yield pytest.param({"model": {"name": "Qwen/Qwen3-32B"}}, id="least")
    yield pytest.param(RICH, id="rich")
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest and manifest["kind"] == "InferencePool":
                yield pytest.param(manifest["spec"], id=path.stem)


async def user_applies(cluster: KubeCluster, namespace: str, spec: Manifest) -> Manifest:
    manifest: Manifest = {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": "qwen", "namespace": namespace},
        "spec": spec,
    }
    return await cluster.apply(manifest, manager="user", force=False)


@pytest.mark.parametrize("spec", list(example_pools()))
async def test_what_is_built_stays_as_it_is_and_shows_no_drift(cluster: KubeCluster, namespace: str, spec):
    pool = pool_of(await user_applies(cluster, namespace, spec))
    for wanted in children(pool, SETTINGS):
        await cluster.apply(wanted, manager=FIELD_MANAGER_CHILDREN, force=True)

        async def unmoved(wanted: Manifest = wanted) -> bool:
            """Controllers write too, into status: but not for ever."""
            before: Any = await cluster.get(ref_of(wanted))
            after: Any = await cluster.apply(wanted, manager=FIELD_MANAGER_CHILDREN, force=True)
            return bool(before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"])

        await eventually(unmoved)
        assert list(drift(wanted, await cluster.get(ref_of(wanted)))) == [], wanted["kind"]


@pytest.mark.parametrize("spec", list(example_pools()))
async def test_an_engine_is_taken_and_is_what_its_pool_asks_for(cluster: KubeCluster, namespace: str, spec):
    pool = pool_of(await user_applies(cluster, namespace, spec))
    made: Any = await cluster.create(engine_pod(pool, 0, "1"), manager=FIELD_MANAGER_CHILDREN)
    assert CurrentTemplate(pool, "1").why_outdated(engine_of(made)) is None


async def test_an_event_that_comes_again_counts(cluster: KubeCluster, namespace: str):
    pool = pool_of(await user_applies(cluster, namespace, RICH)).metadata
    for later in range(3):
        await report(cluster, pool, told(Ready="True"), told(Ready="False"), (), T0 + later)
    (event,) = (await cluster.list(seam.EVENT, namespace=namespace, labels={})).items
    assert (event["count"], event["type"], event["reason"]) == (3, "Warning", "Because")
    assert await cluster.latest_event(Ref(seam.POOL, namespace, "qwen"), uid=pool.uid or "") == event


def told(**statuses: str) -> InferencePoolStatus:
    said = {"reason": "Because", "message": "words", "last_transition_time": "2027-01-15T08:00:00Z"}
    return InferencePoolStatus(conditions=[Condition(type=kind, status=to, **said) for kind, to in statuses.items()])


async def test_rounds_of_a_pool_at_rest_write_nothing(plane: Running, cluster: KubeCluster, namespace: str):
    """No kubelet is here, so its engines wait for ever; status says so once."""
    await user_applies(cluster, namespace, RICH)
    deps, ref = Deps(cluster, Routers(), SETTINGS), Ref(seam.POOL, namespace, "qwen")

    async def writes_of_a_round() -> list[dict[str, Any]]:
        before = len(plane.audit_log.read_text().splitlines())
        await reconcile(deps, ref)
        return [entry for entry in written_since(plane, before) if "kvpool" in entry["requestURI"]]

    async def at_rest() -> bool:
        return not await writes_of_a_round()

    await eventually(at_rest, within_s=30)
    for _ in range(3):
        assert await writes_of_a_round() == []

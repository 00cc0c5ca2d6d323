"""The operator as a process against a control plane without nodes: tests write the status of Pods themselves."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from control_planes import install_crd, kubectl_of, new_namespace, pool_plane, wait_until, written_since
from eventually import eventually as within
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.conditions import ConditionType
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import Kind, Manifest, NotFound, Ref
from kvpool_operator.manifests import is_terminating, name_of, rfc3339, uid_of
from operator_process import OperatorProcess, operator_process

CHILDREN = (
    seam.SERVICE_ACCOUNT,
    seam.ROLE,
    seam.ROLE_BINDING,
    seam.CONFIG_MAP,
    seam.SERVICE,
    seam.NETWORK_POLICY,
    seam.DISRUPTION_BUDGET,
    seam.DEPLOYMENT,
)
eventually = partial(within, within_s=30)
OURS = {"kvpool.dev/pool": "qwen"}
ENGINES = {**OURS, "kvpool.dev/role": "engine"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running:
        yield running


@pytest.fixture
def operator(plane: Running, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    with operator_process(plane.kubeconfig, tmp_path, namespace) as running:
        yield running


class Pool:
    """`qwen` in one namespace, and what stands around it."""

    def __init__(self, cluster: KubeCluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.ref = Ref(seam.POOL, namespace, "qwen")

    async def apply(self, name: str = "qwen", **spec: object) -> None:
        head = {"apiVersion": seam.POOL.api_version, "kind": "InferencePool"}
        meta = {"name": name, "namespace": self.namespace}
        manifest: Manifest = {**head, "metadata": meta, "spec": {"model": {"name": "Qwen/Qwen3-32B"}, **spec}}
        await self.cluster.apply(manifest, manager="user", force=False)

    async def get(self):
        return await self.cluster.get(self.ref)

    async def condition(self, kind: str):
        conditions = (await self.get()).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), None)

    async def of(self, kind: Kind, labels: dict[str, str] = OURS) -> list:
        return list((await self.cluster.list(kind, namespace=self.namespace, labels=labels)).items)

    async def engines(self) -> list:
        return [pod for pod in await self.of(seam.POD, ENGINES) if not is_terminating(pod)]

    async def has(self, count: int) -> bool:
        return len(await self.engines()) == count

    async def kubelet_reports(self, pod: Manifest, message: str = "", ready: str = "True") -> None:
        """As the kubelet of a node that runs it would."""
        conditions: list = [
            {"type": kind, "status": ready, "lastTransitionTime": rfc3339(time.time()), "message": message}
            for kind in ("ContainersReady", "Ready")
        ]
        head: Manifest = {"apiVersion": "v1", "kind": "Pod"}
        meta = {"name": name_of(pod), "namespace": self.namespace}
        status = {"phase": "Running", "conditions": conditions}
        manifest: Manifest = {**head, "metadata": meta, "status": status}
        await self.cluster.apply(manifest, manager="kubelet", force=True, subresource="status")

    async def events(self) -> list[str]:
        listed: list = await self.of(seam.EVENT, {})
        return [each["message"] for each in listed if each["involvedObject"]["kind"] == "InferencePool"]

    async def was_told(self, words: str) -> bool:
        return any(words in message for message in await self.events())

    async def is_reported(self) -> bool:
        return await self.condition("Ready") is not None


@pytest.fixture
def pool(cluster: KubeCluster, namespace: str) -> Pool:
    return Pool(cluster, namespace)


async def rests(operator: OperatorProcess) -> None:
    """No round in two seconds."""

    async def quiet() -> bool:
        before = operator.rounds()
        await asyncio.sleep(2)
        return operator.rounds() == before

    await eventually(quiet, within_s=40)


async def test_a_pool_of_any_namespace_gets_all_it_needs_and_a_status_and_nothing_of_ours_stands_on_it(
    plane: Running, pool: Pool, tmp_path: Path
):
    with operator_process(plane.kubeconfig, tmp_path):
        await pool.apply(replicas=2)
        await eventually(lambda: pool.has(2))
        await eventually(pool.is_reported)
        found = {kind.kind: len(await pool.of(kind)) for kind in CHILDREN}
        assert all(found.values()), found
        assert (await pool.get())["status"]["desiredReplicas"] == 2
        assert len((await pool.get())["status"]["conditions"]) == len(ConditionType)
        await pool.apply(replicas=3)
        await eventually(lambda: pool.has(3))
        metadata = (await pool.get())["metadata"]
        assert "finalizers" not in metadata
        assert "annotations" not in metadata
        assert {each["manager"] for each in metadata["managedFields"]} == {"user", "kvpool-operator-status"}


async def test_a_hundred_pod_events_in_a_burst_cost_at_most_three_rounds(operator: OperatorProcess, pool: Pool):
    await pool.apply(replicas=10)
    await eventually(lambda: pool.has(10))
    engines = await pool.engines()
    for engine in engines:
        await pool.kubelet_reports(engine, ready="False")
    await rests(operator)
    before, begun = operator.rounds(), time.monotonic()

    async def stirs(engine: Manifest) -> None:
        for turn in range(10):
            await pool.kubelet_reports(engine, f"event {turn}", ready="False")

    await asyncio.gather(*map(stirs, engines))
    lasted = time.monotonic() - begun
    await eventually(lambda: operator.rounds() > before)
    await rests(operator)
    print(f"100 events in {lasted:.2f} s: {operator.rounds() - before:.0f} rounds")  # noqa: T201
    assert operator.rounds() - before <= max(3, 2 + lasted)


async def test_pools_at_rest_cause_no_write(plane: Running, operator: OperatorProcess, pool: Pool):
    names = [f"pool-{number}" for number in range(5)]
    for name in names:
        await pool.apply(name, replicas=1)

    async def all_run() -> bool:
        return len(await pool.of(seam.POD, {"kvpool.dev/role": "engine"})) == len(names)

    await eventually(all_run, within_s=30)
    for engine in await pool.of(seam.POD, {"kvpool.dev/role": "engine"}):
        await pool.kubelet_reports(engine, ready="False")
    await rests(operator)
    line = len(plane.audit_log.read_text().splitlines())
    await asyncio.sleep(12)
    written = [entry for entry in written_since(plane, line) if pool.namespace in entry["requestURI"]]
    assert [entry for entry in written if "kube-controller-manager" not in entry["userAgent"]] == []


async def test_what_is_deleted_or_changed_by_hand_is_mended_at_once_with_an_event(
    operator: OperatorProcess, pool: Pool
):
    await pool.apply(replicas=1)
    await eventually(pool.is_reported)
    await rests(operator)
    for kind in CHILDREN:
        (child, *_) = await pool.of(kind)
        await pool.cluster.delete(Ref(kind, pool.namespace, name_of(child)), uid=uid_of(child))

        async def is_back(kind: Kind = kind, child: Manifest = child) -> bool:
            return any(
                name_of(each) == name_of(child) and uid_of(each) != uid_of(child) for each in await pool.of(kind)
            )

        await eventually(is_back)
        words = f"{kind.kind} {name_of(child)} was missing"
        await eventually(lambda words=words: pool.was_told(words))
    (config,) = await pool.of(seam.CONFIG_MAP)
    (key,) = config["data"]
    metadata = {"name": name_of(config), "namespace": pool.namespace}
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: "broken"}}
    await pool.cluster.apply(broken, manager="by-hand", force=True)

    async def is_mended() -> bool:
        (found,) = await pool.of(seam.CONFIG_MAP)
        return found["data"] == config["data"]

    await eventually(is_mended)
    await eventually(lambda: pool.was_told("ConfigMap qwen-router differed in data"))


async def test_a_deleted_pool_is_gone_at_once_and_all_it_owned_is_collected(operator: OperatorProcess, pool: Pool):
    await pool.apply(replicas=2)
    await eventually(pool.is_reported)
    await pool.cluster.delete(pool.ref, uid=uid_of(await pool.get()))

    async def is_gone() -> bool:
        try:
            await pool.get()
        except NotFound:
            return not any([await pool.of(kind) for kind in CHILDREN]) and await pool.has(0)
        return False

    await eventually(is_gone, within_s=60)
    await eventually(lambda: operator.sample("kvpool_operator_pools") == 0)


async def test_a_pool_made_again_and_again_under_one_name_ends_with_children_of_its_own(
    operator: OperatorProcess, pool: Pool
):
    """Each time while the one before is still being made, or collected; the collector may take its time."""
    for pause_s in (0.3, 0.0, 1.0):
        await pool.apply(replicas=1)
        await asyncio.sleep(pause_s)
        await pool.cluster.delete(pool.ref, uid=uid_of(await pool.get()))
    await pool.apply(replicas=1)
    owner = uid_of(await pool.get())

    async def is_whole() -> bool:
        found = [child for kind in (*CHILDREN, seam.SECRET) for child in await pool.of(kind) if is_of_a_pool(child)]
        owners = {each["uid"] for child in found for each in child["metadata"]["ownerReferences"]}
        return owners == {owner} and {kind.kind for kind in CHILDREN} <= {child["kind"] for child in found}

    await eventually(is_whole)


def is_of_a_pool(child: dict) -> bool:
    owners = child["metadata"].get("ownerReferences", [])
    return any(each["kind"] == "InferencePool" for each in owners)


async def test_a_namespace_that_is_deleted_goes_with_its_pools_and_the_operator_complains_of_nothing_else(
    plane: Running, cluster: KubeCluster, tmp_path: Path
):
    going, staying = Pool(cluster, new_namespace(plane)), Pool(cluster, new_namespace(plane))
    with operator_process(plane.kubeconfig, tmp_path, going.namespace, staying.namespace) as operator:
        for each in (going, staying):
            await each.apply(replicas=1)
            await eventually(each.is_reported)
        kubectl_of(plane)("delete", "namespace", going.namespace, "--timeout=60s", timeout_s=70)
        await eventually(lambda: operator.sample("kvpool_operator_pools") == 1)
        await staying.apply(replicas=2)
        await eventually(lambda: staying.has(2))
        assert operator.health() == 200
        assert '"level": "error"' not in operator.log.read_text()


async def test_killed_at_work_it_goes_on_where_it_stood(operator: OperatorProcess, pool: Pool):
    await pool.apply(replicas=4)
    await eventually(lambda: operator.rounds() >= 1)
    operator.stop(signal.SIGKILL)
    if engines := await pool.engines():
        await pool.cluster.delete(Ref(seam.POD, pool.namespace, name_of(engines[0])), uid=uid_of(engines[0]), grace_s=0)
    await pool.apply(replicas=3)
    operator.start()
    await eventually(lambda: pool.has(3))
    slots = [pod["metadata"]["labels"]["kvpool.dev/slot"] for pod in await pool.engines()]
    assert len(set(slots)) == 3


async def test_an_api_server_that_stands_still_for_half_a_minute_is_outlasted(
    plane: Running, operator: OperatorProcess, pool: Pool
):
    await pool.apply(replicas=1)
    await eventually(pool.is_reported)
    plane.pause("kube-apiserver")
    try:
        await asyncio.sleep(30)
        assert operator.health() == 200
    finally:
        plane.resume("kube-apiserver")
    await pool.apply(replicas=2)
    print(f"after the pause: {await eventually(lambda: pool.has(2), within_s=60):.1f} s")  # noqa: T201
    assert not operator.ended()


async def test_an_api_server_that_was_away_is_watched_again(plane: Running, operator: OperatorProcess, pool: Pool):
    await pool.apply(replicas=1)
    await eventually(pool.is_reported)
    plane.kill("kube-apiserver")
    await asyncio.sleep(5)
    plane.start("kube-apiserver")
    await asyncio.to_thread(plane.wait_until_ready)
    await pool.apply(replicas=2)
    await eventually(lambda: pool.has(2), within_s=60)
    (engine, _) = await pool.engines()
    await pool.cluster.delete(Ref(seam.POD, pool.namespace, name_of(engine)), uid=uid_of(engine), grace_s=0)

    async def is_replaced() -> bool:
        uids = {uid_of(each) for each in await pool.engines()}
        return len(uids) == 2 and uid_of(engine) not in uids

    await eventually(is_replaced, within_s=60)


async def test_it_ends_quickly_when_it_is_told_to_and_leaves_the_pool_as_it_is(operator: OperatorProcess, pool: Pool):
    await pool.apply(replicas=2)
    await eventually(lambda: pool.has(2))
    code, seconds = operator.stop()
    assert code == 0
    assert seconds < 5
    assert await pool.has(2)
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
    about = [line for line in lines if line["logger"] == "kvpool_operator.act"]
    assert {(line["namespace"], line["pool"]) for line in about} == {(pool.namespace, "qwen")}


def refused(operator: OperatorProcess) -> str:
    """What it says when it does not start."""
    operator.launch()
    assert operator.process is not None
    try:
        assert operator.process.wait(timeout=30) == 2
    except subprocess.TimeoutExpired:
        operator.stop(signal.SIGKILL)
        raise
    return operator.log.read_text().splitlines()[-1]


def test_a_missing_permission_is_named(plane: Running, namespace: str, tmp_path: Path):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    asked = Api(plane.kubeconfig)._ask("POST", path, b'{"spec": {"expirationSeconds": 600}}')
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": json.loads(asked)["status"]["token"]}
    nobody = tmp_path / "nobody"
    nobody.write_text(json.dumps(config))
    said = refused(OperatorProcess(nobody, tmp_path / "log"))
    assert "may not list inferencepools.kvpool.dev in all namespaces" in said
    assert "kubectl apply -k deploy/" in said


async def test_uninstalling_with_live_pools_and_a_dead_operator_ends_cleanly_and_no_operator_starts_after_it(
    plane: Running, operator: OperatorProcess, pool: Pool, tmp_path: Path
):
    async def nothing_is_left() -> bool:
        return not any([await pool.of(kind) for kind in (*CHILDREN, seam.POD)])

    await pool.apply()
    await eventually(pool.is_reported)
    await pool.cluster.delete(pool.ref, uid=uid_of(await pool.get()))
    await eventually(nothing_is_left, within_s=60)  # the garbage collector knows the kind by now
    await pool.apply(replicas=2)
    await eventually(pool.is_reported)
    operator.stop(signal.SIGKILL)
    await asyncio.to_thread(without_crd, plane)
    try:
        await eventually(nothing_is_left)
        said = await asyncio.to_thread(refused, OperatorProcess(plane.kubeconfig, tmp_path / "log"))
        assert "the CRD inferencepools.kvpool.dev is not installed; install it: kubectl apply" in said
    finally:
        await asyncio.to_thread(install_crd, plane)


def without_crd(plane: Running) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferencepools.kvpool.dev"
    api = Api(plane.kubeconfig)
    api._ask("DELETE", path, None)
    wait_until(lambda: not api.answers(path))

"""A router's membership at a real API server, with no more rights than the operator gives its service account."""

import asyncio
import json
import os
import random
import signal
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import certifi
import pytest
from control_planes import NAMESPACES, pool_plane, restart_api_server
from engine_pods import engine_pod
from eventually import eventually
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.labels import DRAINING, engine_selector, member_selector
from kvpool_api.pool import InferencePool
from kvpool_api.wire import RouterConfig, RouterState, TokenizerConfig
from kvpool_operator.build.access import role, role_binding, service_account
from kvpool_operator.cluster.kube import KubeCluster, connect
from kvpool_operator.cluster.seam import POD, Ref
from kvpool_router.membership.kube_impl import BackOff, KubeMembership
from kvpool_router.membership.pods_api import ApiServer, Connection, Expired, Patience, PodsApi
from kvpool_router.workers import Worker
from kvpool_sim import tokenizer_path

QUICK = BackOff(first_s=0.05, most_s=0.2)
SHORT = Patience(list_s=1, watch_s=1, grace_s=1)
STARTED_S = 60.0
"""Three processes that load tokenizers and end again, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running:
        yield running


@pytest.fixture(autouse=True)
async def goodbyes() -> AsyncIterator[None]:
    """TLS connections end a few turns of the loop after they were closed."""
    yield
    await asyncio.sleep(0.1)


class Pods:
    """Engine Pods of pool `qwen`, whose status the test writes in the kubelet's stead."""

    def __init__(self, cluster: KubeCluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    async def put(self, name: str, **told) -> None:
        pod = engine_pod(name, **told)
        labels = {**engine_selector("qwen")}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        containers = [{"name": "engine", "image": "any", "ports": pod["spec"]["containers"][0]["ports"]}]
        kind = {"apiVersion": "v1", "kind": "Pod"}
        annotations = pod["metadata"]["annotations"]
        await self._cluster.apply(
            {**kind, "metadata": {**metadata, "annotations": annotations}, "spec": {"containers": containers}},
            manager="test",
            force=True,
        )
        statuses = [{"name": "engine", "ready": True, "restartCount": 0, "image": "any", "imageID": ""}]
        status = {**pod["status"], "containerStatuses": statuses}
        await self._cluster.apply(
            {**kind, "metadata": metadata, "status": status}, manager="kubelet", force=True, subresource="status"
        )

    async def delete(self, name: str) -> None:
        ref = Ref(POD, self.namespace, name)
        uid = (await self._cluster.get(ref))["metadata"]["uid"]
        await self._cluster.delete(ref, uid=uid, grace_s=0)


@pytest.fixture
async def pods(plane: Running, namespace: str) -> AsyncIterator[Pods]:
    async with connect(plane.kubeconfig) as cluster:
        yield Pods(cluster, namespace)


@pytest.fixture
def server(plane: Running, namespace: str, tmp_path: Path) -> ApiServer:
    """With a token of the router's service account, as the kubelet would mount it."""
    return router_access(plane, namespace, tmp_path / "account")


def router_access(plane: Running, namespace: str, folder: Path, *, may_read: bool = True) -> ApiServer:
    api = Api(plane.kubeconfig)
    pool = InferencePool.model_validate(
        {"metadata": {"name": "qwen", "namespace": namespace}, "spec": {"model": {"name": "m"}}}
    )
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    account = service_account(pool)
    unowned(api, f"{NAMESPACES}/{namespace}/serviceaccounts", account)
    if may_read:
        unowned(api, f"{rbac}/roles", role(pool))
        unowned(api, f"{rbac}/rolebindings", role_binding(pool))
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    name = account["metadata"]["name"]
    answer = json.loads(api.post(f"{NAMESPACES}/{namespace}/serviceaccounts/{name}/token", asked))
    config = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    folder.mkdir()
    (folder / "token").write_text(answer["status"]["token"])
    (folder / "ca.crt").write_bytes(b64decode(config["certificate-authority-data"]))
    return ApiServer(config["server"], folder)


def unowned(api: Api, path: str, manifest) -> None:
    """Without the pool that would own it."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    api.post(path, {**manifest, "metadata": metadata})


class Followed:
    def __init__(self, server: ApiServer, namespace: str, patience: Patience) -> None:
        self.membership = KubeMembership(PodsApi(server, namespace, member_selector("qwen"), patience), QUICK)
        self.workers: tuple[Worker, ...] | None = None
        self.told = 0

    @property
    def pods(self) -> list[str] | None:
        return None if self.workers is None else [worker.id.pod for worker in self.workers]

    async def run(self) -> None:
        async for snapshot in self.membership.snapshots():
            self.workers = snapshot.workers
            self.told += 1


@asynccontextmanager
async def following(server: ApiServer, namespace: str, patience: Patience = SHORT) -> AsyncIterator[Followed]:
    followed = Followed(server, namespace, patience)
    task = asyncio.create_task(followed.run())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_engines_that_come_drain_and_go_are_followed_over_many_watches(pods, server):
    async with following(server, pods.namespace) as followed:
        await eventually(lambda: followed.pods == [])
        await pods.put("a", ip="127.0.0.2")
        await eventually(lambda: followed.pods == ["a"] and followed.workers[0].accepts_requests)
        assert followed.workers[0].url == "http://127.0.0.2:8000"
        await asyncio.sleep(2.5)  # two watches end as they were asked to, and nothing is heard of it
        told = followed.told
        await pods.put("b", ip="127.0.0.3", annotations={DRAINING: "2026-01-01T00:00:00Z"})
        await eventually(lambda: followed.pods == ["a", "b"] and followed.workers[1].draining)
        await pods.delete("a")
        await eventually(lambda: followed.pods == ["b"])
        assert followed.membership.trouble is None
        assert told <= 3


async def test_an_api_server_that_hangs_changes_nothing_but_the_trouble_until_it_goes_on(plane, pods, server):
    await pods.put("a")
    async with following(server, pods.namespace) as followed:
        await eventually(lambda: followed.pods == ["a"])
        plane.pause("kube-apiserver")
        try:
            await eventually(lambda: followed.membership.trouble)
            assert "did not answer within" in followed.membership.trouble
            assert followed.pods == ["a"]
        finally:
            plane.resume("kube-apiserver")
        await pods.put("b")
        await eventually(lambda: followed.pods == ["a", "b"] and followed.membership.trouble is None)


async def test_an_api_server_that_was_killed_and_started_is_found_again_and_nothing_is_lost(plane, pods, server):
    await pods.put("a")
    async with following(server, pods.namespace, Patience()) as followed:
        await eventually(lambda: followed.pods == ["a"])
        plane.kill("kube-apiserver")
        await eventually(lambda: followed.membership.trouble)
        assert followed.pods == ["a"]
        plane.start("kube-apiserver")
        await asyncio.to_thread(plane.wait_until_ready)
        await pods.put("b")
        await pods.delete("a")
        await eventually(lambda: followed.pods == ["b"] and followed.membership.trouble is None, within_s=20)


async def watched_from(connection: Connection, version: str) -> None:
    async with connection.watch(version) as events:
        async for _ in events:
            pass


async def test_a_version_that_a_new_api_server_has_forgotten_is_expired(plane, pods, server):
    api = PodsApi(server, pods.namespace, member_selector("qwen"), SHORT)
    async with api.connected() as connection:
        version = (await connection.list()).metadata.resource_version
    for turn in range(3):
        await pods.put(f"p-{turn}")
    await asyncio.to_thread(restart_api_server, plane)
    async with api.connected() as connection:
        await connection.list()
        with pytest.raises(Expired, match="too old"):
            await watched_from(connection, version)


async def test_a_token_that_is_not_accepted_is_said_and_a_renewed_one_is_used(pods, server):
    good = (server.credentials / "token").read_text()
    await pods.put("a")
    (server.credentials / "token").write_text("guess")
    async with following(server, pods.namespace) as followed:
        await eventually(lambda: followed.membership.trouble)
        assert "does not accept the service account's token" in followed.membership.trouble
        (server.credentials / "token").write_text(good)
        await eventually(lambda: followed.pods == ["a"] and followed.membership.trouble is None)


async def test_lacking_rights_are_said_with_the_role_that_gives_them(plane, pods, tmp_path):
    server = router_access(plane, pods.namespace, tmp_path / "other", may_read=False)
    async with following(server, pods.namespace) as followed:
        await eventually(lambda: followed.membership.trouble)
    assert 'cannot list resource "pods"' in followed.membership.trouble
    assert "the operator's Role <pool>-router gives them" in followed.membership.trouble


async def test_a_certificate_of_another_authority_is_not_trusted(pods, server, tmp_path):
    (server.credentials / "ca.crt").write_text(certifi.contents())
    async with following(server, pods.namespace) as followed:
        await eventually(lambda: followed.membership.trouble)
    assert "CERTIFICATE_VERIFY_FAILED" in followed.membership.trouble
    assert followed.pods is None


# a router process, and engines that are processes


@asynccontextmanager
async def process(*words: str, env: dict[str, str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("KVPOOL_", "KUBERNETES_"))}
    begun = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, env={**known, **(env or {})}, stderr=asyncio.subprocess.PIPE
    )
    reading = asyncio.create_task(begun.communicate())
    try:
        yield begun
    finally:
        if begun.returncode is None:
            begun.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(reading, STARTED_S)
        assert begun.returncode in (0, -signal.SIGTERM, -signal.SIGKILL), said.decode()


def engine(address: str):
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "tcp://*:5557",
        "replay_endpoint": "tcp://*:5657",
    }
    flags = ("--host", address, "--kv-events-config", json.dumps(events), "--enable-prompt-tokens-details")
    return process("kvpool_sim", "tiny", *flags, "--sim-speed", "100")


class RouterProcess:
    def __init__(self, address: str, client: aiohttp.ClientSession) -> None:
        self.url, self.admin = f"http://{address}:8000", f"http://{address}:8001"
        self.client = client

    async def state(self) -> RouterState:
        async with self.client.get(f"{self.admin}/state", headers={"X-Kvpool-Token": "secret"}) as answer:
            assert answer.status == 200
            return RouterState.model_validate_json(await answer.read())

    async def exact(self, *pods: str) -> bool:
        """Whether it follows exactly these, each to its last event."""
        try:
            workers = (await self.state()).workers
        except aiohttp.ClientError:
            return False
        return [worker.pod for worker in workers if worker.events == "EXACT"] == list(pods) and len(workers) == len(
            pods
        )

    async def ask(self, words: str = "one two three ") -> int:
        body = {"model": "tiny", "prompt": words * 50, "max_tokens": 2}
        async with self.client.post(f"{self.url}/v1/completions", json=body) as answer:
            await answer.read()
            return answer.status


@asynccontextmanager
async def router(address: str, server: ApiServer, namespace: str, folder: Path) -> AsyncIterator[RouterProcess]:
    config = RouterConfig(
        pool="qwen",
        namespace=namespace,
        model="tiny",
        tokenizer=TokenizerConfig(path=str(tokenizer_path())),
        block_tokens=16,
        max_body_bytes=1 << 20,
        sync_timeout_s=5.0,
    )
    (folder / "router.json").write_text(config.model_dump_json(by_alias=True))
    (folder / "admin-token").write_text("secret")
    host, port = server.url.removeprefix("https://").split(":")
    env = {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "POD_IP": address,
        "POD_NAME": "qwen-router-x",
    }
    files = ("--config", folder / "router.json", "--admin-token-file", folder / "admin-token")
    words = (*files, "--service-account", server.credentials)
    async with process("kvpool_router", *map(str, words), env=env), aiohttp.ClientSession() as client:
        yield RouterProcess(address, client)


@pytest.mark.timeout(240)
async def test_a_router_process_serves_its_engines_through_the_api_servers_absence(plane, pods, server, tmp_path):
    subnet = f"127.{random.randrange(128, 250)}.{random.randrange(250)}"
    first, second = f"{subnet}.2", f"{subnet}.3"
    async with engine(first), engine(second), router(f"{subnet}.1", server, pods.namespace, tmp_path) as running:
        await pods.put("qwen-a", ip=first)
        await eventually(lambda: running.exact("qwen-a"), within_s=STARTED_S)
        assert await running.ask() == 200
        await pods.put("qwen-b", ip=second)
        await eventually(lambda: running.exact("qwen-a", "qwen-b"), within_s=STARTED_S)
        plane.kill("kube-apiserver")
        for turn in range(20):
            assert await running.ask(f"{turn} four five ") == 200
        await eventually(lambda: running.exact("qwen-a", "qwen-b"))
        plane.start("kube-apiserver")
        await asyncio.to_thread(plane.wait_until_ready)
        await pods.put("qwen-a", ip=first, annotations={DRAINING: "2026-01-01T00:00:00Z"})

        async def acknowledged() -> bool:
            return [worker.pod for worker in (await running.state()).workers if worker.draining] == ["qwen-a"]

        await eventually(acknowledged, within_s=STARTED_S)
        await pods.delete("qwen-a")
        await eventually(lambda: running.exact("qwen-b"), within_s=STARTED_S)
        assert await running.ask() == 200

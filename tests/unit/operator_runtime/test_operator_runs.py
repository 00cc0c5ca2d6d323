"""The whole operator in this process, before an API server that only keeps objects."""

import asyncio
import getpass
import json
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from api_front import hanging_up, refusing, saying, status
from eventually import eventually
from kvpool_api.conditions import ConditionType
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.manifests import is_terminating, name_of, uid_of
from kvpool_operator.runtime.options import Options, StartError
from kvpool_operator.runtime.run import run
from kvpool_operator.settings import Settings
from operator_front import kubeconfig, operator_front
from quiet_ports import free_port
from store_cluster import StoreCluster

QUICK = Settings(back_off_s=(0.001, 0.01), settle_s=0.05)
WATCHED = {
    "inferencepools",
    "pods",
    "deployments",
    "services",
    "configmaps",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "poddisruptionbudgets",
    "networkpolicies",
}


@pytest.fixture
async def cluster():
    return StoreCluster()


@pytest.fixture
async def front(cluster):
    async with operator_front(cluster) as front:
        yield front


@pytest.fixture
def options(tmp_path, front):
    path = kubeconfig(tmp_path, front.url)
    return Options((), path, QUICK, health_port=free_port(), metrics_port=free_port())


@asynccontextmanager
async def running(options, front):
    """The operator, watching; ended as a kubelet ends it."""
    operator = asyncio.create_task(run(options))
    await eventually(lambda: operator.done() or front.watched() == WATCHED)
    try:
        yield operator
    finally:
        if not operator.done():
            signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await operator


async def fetched(port, path):
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def engines(cluster):
    return [pod for pod in cluster.pods() if not is_terminating(pod)]


async def test_a_pool_gets_what_it_needs_and_nothing_of_the_operators_stands_on_it(cluster, front, options):
    await cluster.user_applies(replicas=2)
    async with running(options, front):
        await eventually(lambda: len(engines(cluster)) == 2)
        await eventually(lambda: len(cluster.pool().get("status", {}).get("conditions", [])) == len(ConditionType))
        await cluster.user_applies(replicas=3)
        await eventually(lambda: len(engines(cluster)) == 3)
    assert "finalizers" not in cluster.pool()["metadata"]
    assert "annotations" not in cluster.pool()["metadata"]


async def test_a_user_without_a_name_can_run_it_as_a_containers_has_none(cluster, front, options, monkeypatch):
    def no_name():
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", no_name)
    async with running(options, front) as operator:
        assert not operator.done()


async def test_a_child_taken_away_by_hand_comes_back_at_once(cluster, front, options):
    await cluster.user_applies(replicas=0)
    async with running(options, front):
        service = Ref(seam.SERVICE, "default", "qwen")

        async def present():
            return any(name_of(each) == "qwen" for each in (await cluster.list(seam.SERVICE, **EVERYWHERE)).items)

        await eventually(present)
        await eventually(lambda: cluster.pool().get("status"))
        cluster.store.remove(service, uid=uid_of(cluster.store.get(service)))
        await eventually(present)


EVERYWHERE = {"namespace": None, "labels": {}}


async def test_pools_deleted_unseen_end_their_loops_after_the_watches_come_back(cluster, front, options):
    ref = await cluster.user_applies(replicas=0)
    async with running(options, front):
        await eventually(lambda: cluster.pool().get("status"))
        assert "kvpool_operator_pools 1.0" in (await fetched(options.metrics_port, "/metrics"))[1]
        cluster.store.delete(ref, uid=uid_of(cluster.pool()))

        async def without_pools():
            return "kvpool_operator_pools 0.0" in (await fetched(options.metrics_port, "/metrics"))[1]

        await eventually(without_pools)


async def test_it_is_alive_with_and_without_pools_and_counts_its_calls(cluster, front, options):
    async with running(options, front):
        status, body = await fetched(options.health_port, "/healthz")
        assert (status, json.loads(body)) == (200, {"alive": "every watch and every pool is attended to"})
        told = (await fetched(options.metrics_port, "/metrics"))[1]
        assert 'kvpool_operator_api_calls_total{code="200",verb="watch"} 10.0' in told
        assert "kvpool_operator_longest_unvisited_seconds 0.0" in told


async def test_it_is_given_up_when_no_watch_opens_any_more(cluster, front, options, monkeypatch):
    monkeypatch.setattr("kvpool_operator.runtime.run.WATCH_LIMIT_S", -1.0)
    async with running(options, front):
        status, _ = await fetched(options.health_port, "/healthz")
        assert status == 500


async def test_only_the_named_namespaces_are_looked_at(cluster, front, options):
    await cluster.user_applies(replicas=1)
    async with running(replace(options, namespaces=("other",)), front):
        assert all("/namespaces/other/" in request.path for request in front.watches)
    assert cluster.pods() == ()


def of_a_watch(front, trouble, plural=""):
    """The next watch (of these) has the trouble; all other requests pass."""

    async def answer(request):
        if "watch" not in request.query or not request.path.endswith(plural):
            front.troubles.append(answer)
            return None
        return await trouble(request)

    return answer


def error_event(code):
    return saying(json.dumps({"type": "ERROR", "object": status(code, "in the test")}) + "\n")


@pytest.mark.parametrize("trouble", [refusing(500), refusing(429, retry_after="0"), hanging_up, error_event(410)])
async def test_a_watch_that_has_trouble_comes_back_and_what_went_meanwhile_is_made_again(
    cluster, front, options, trouble
):
    await cluster.user_applies(replicas=1)
    async with running(options, front):
        await eventually(lambda: len(engines(cluster)) == 1)
        (engine,) = engines(cluster)
        front.troubles.append(of_a_watch(front, trouble, "pods"))
        front.cut_watches()
        await eventually(lambda: not front.troubles)
        cluster.store.remove(Ref(seam.POD, "default", name_of(engine)), uid=uid_of(engine))
        await eventually(lambda: front.watched() == WATCHED)
        await eventually(lambda: [uid_of(each) for each in engines(cluster)] not in ([], [uid_of(engine)]))


async def test_a_watch_that_kopf_gives_up_ends_the_process_for_the_kubelet_to_start_anew(cluster, front, options):
    ports = [f"--health-port={options.health_port}", f"--metrics-port={options.metrics_port}"]
    words = ["-m", "kvpool_operator", f"--kubeconfig={options.kubeconfig}", *ports]
    operator = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=subprocess.DEVNULL)
    try:
        await eventually(lambda: front.watched() == WATCHED, within_s=30)
        front.troubles.append(of_a_watch(front, error_event(500)))
        front.cut_watches()
        async with asyncio.timeout(30):
            assert await operator.wait() != 0
    finally:
        if operator.returncode is None:
            operator.kill()
            await operator.wait()


async def test_credentials_that_are_refused_once_are_read_anew(cluster, front, options):
    await cluster.user_applies(replicas=0)
    async with running(options, front):
        front.troubles.append(of_a_watch(front, refusing(401, "token expired")))
        front.cut_watches()
        await eventually(lambda: not front.troubles)
        await eventually(lambda: front.watched() == WATCHED)
        await cluster.user_applies(replicas=1)
        await eventually(lambda: len(engines(cluster)) == 1)


async def test_a_port_that_is_taken_is_named_with_the_option_that_moves_it(options):
    for name in ("health", "metrics"):
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(StartError, match=rf"port {port} cannot be had .*--{name}-port"):
                await run(replace(options, **{f"{name}_port": port}))


async def test_without_credentials_it_does_not_start(tmp_path, options):
    with pytest.raises(StartError, match="no such file"):
        await run(replace(options, kubeconfig=tmp_path / "none"))

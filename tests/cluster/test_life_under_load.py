"""Engines that leave, on a real node with streams in flight: drained, called back, timed out, evicted, replaced."""

import json
import time
from collections.abc import Iterator
from typing import cast

import pytest
from install_manifests import NAMESPACE
from kubectl import OFTEN_S, Kubectl, Refused, own_namespace, until
from kvnode import faults
from kvnode.node import Node
from pools_in_cluster import POOLS, conditions, engines, pool, simulated, wait_until_ready
from streams import Streams, streaming

DRAINING = "kvpool.dev/draining"
SLOW = {"args": ["--sim-speed", "0.05"]}
"""A token takes a fifth of a second: streams last, and two cores hold many."""


@pytest.fixture(scope="module")
def kubectl(operator_in_cluster: Kubectl) -> Iterator[Kubectl]:
    """kubectl where the pool `qwen` is: two engines to begin with."""
    with own_namespace(operator_in_cluster) as here:
        asks(here)
        wait_until_ready(here)
        yield here


def asks(kubectl: Kubectl, **spec: object) -> None:
    """The pool, changed; over what `kubectl scale` has said."""
    whole = json.dumps(changed(**spec))
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=whole)


def changed(**spec: object) -> dict:
    engine = {"image": simulated(), **SLOW, **cast(dict[str, object], spec.pop("engine", {}))}
    return pool("qwen", replicas=2, engine=engine, **spec)


def alive(kubectl: Kubectl) -> list[dict]:
    return [pod for pod in engines(kubectl, "qwen") if "deletionTimestamp" not in pod["metadata"]]


def names(pods: list[dict]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def draining(kubectl: Kubectl) -> list[dict]:
    return [pod for pod in alive(kubectl) if DRAINING in pod["metadata"].get("annotations", {})]


def scaled(kubectl: Kubectl, replicas: int) -> None:
    """As asked, and the pool says so."""
    kubectl("scale", POOLS, "qwen", f"--replicas={replicas}")
    until(lambda: is_as_asked(kubectl, replicas), within_s=90, otherwise=lambda: conditions(kubectl, "qwen"))


def is_as_asked(kubectl: Kubectl, replicas: int) -> bool:
    told = kubectl.get(POOLS, "qwen")
    status = told.get("status", {})
    progressing = next((each for each in status.get("conditions", []) if each["type"] == "Progressing"), {})
    return (
        len(engines(kubectl, "qwen")) == replicas == status.get("routableReplicas")
        and progressing.get("status") == "False"
        and progressing.get("observedGeneration") == told["metadata"]["generation"]
    )


def was_told(kubectl: Kubectl, words: str) -> bool:
    return any(words in event for event in kubectl.events("qwen"))


@pytest.fixture
def streams(kubectl: Kubectl) -> Iterator[Streams]:
    with streaming(kubectl, "http://qwen", count=24, tokens=25) as running:
        yield running


@pytest.mark.timeout(300)
def test_a_scale_in_and_a_rollout_cut_no_stream_and_say_what_changed(kubectl: Kubectl, streams: Streams):
    scaled(kubectl, 3)
    before = alive(kubectl)
    scaled(kubectl, 2)
    assert names(alive(kubectl)) < names(before)
    assert was_told(kubectl, "every router has stopped sending to it and nothing is in flight")
    old = names(alive(kubectl))
    asks(kubectl, engine={"args": [*SLOW["args"], "--max-num-seqs", "200"]})
    counts = set()

    def is_rolled() -> bool:
        counts.add(len(alive(kubectl)))
        return is_as_asked(kubectl, 2) and not names(alive(kubectl)) & old

    until(is_rolled, within_s=120, otherwise=lambda: conditions(kubectl, "qwen"), every_s=OFTEN_S)
    assert counts <= {2, 3}, "maxSurge is 1, maxUnavailable 0"
    assert was_told(kubectl, "spec.engine.args")
    told = streams.end()
    assert told["failures"] == 0, told["failed"]
    assert told["ok"] > 50
    print(f"streams: {told['ok']} ok, 0 failed or cut")  # noqa: T201


def test_a_rolling_replacement_without_surge_has_one_less_at_a_time_and_never_one_more(kubectl: Kubectl):
    old = names(alive(kubectl))
    asks(kubectl, rollout={"maxSurge": 0, "maxUnavailable": 1}, engine={"args": SLOW["args"]})
    most = 0

    def is_rolled() -> bool:
        nonlocal most
        most = max(most, len(alive(kubectl)))
        return is_as_asked(kubectl, 2) and not names(alive(kubectl)) & old

    until(is_rolled, within_s=120, otherwise=lambda: conditions(kubectl, "qwen"), every_s=OFTEN_S)
    assert most == 2


@pytest.mark.timeout(180)
def test_an_engine_that_drains_is_called_back_when_demand_returns_and_is_the_same_one(kubectl: Kubectl):
    scaled(kubectl, 2)
    before = {pod["metadata"]["uid"] for pod in alive(kubectl)}
    with streaming(kubectl, "http://qwen", count=8, tokens=150) as streams:
        kubectl("scale", POOLS, "qwen", "--replicas=1")
        until(lambda: draining(kubectl), within_s=20, every_s=OFTEN_S)
        kubectl("scale", POOLS, "qwen", "--replicas=2")
        until(lambda: not draining(kubectl) and was_told(kubectl, "demand has returned"), within_s=20)
        assert {pod["metadata"]["uid"] for pod in alive(kubectl)} == before
        assert streams.told()["failures"] == 0


@pytest.mark.timeout(180)
def test_an_engine_whose_requests_do_not_end_goes_at_the_deadline(kubectl: Kubectl):
    asks(kubectl, drain={"timeoutSeconds": 4})
    until(lambda: is_as_asked(kubectl, 2), within_s=120, otherwise=lambda: conditions(kubectl, "qwen"))
    with streaming(kubectl, "http://qwen", count=8, tokens=2000):
        kubectl("scale", POOLS, "qwen", "--replicas=1")
        until(lambda: draining(kubectl), within_s=20, every_s=OFTEN_S)
        begun = time.monotonic()
        until(lambda: len(alive(kubectl)) == 1, within_s=30)
        assert 2 < time.monotonic() - begun < 15
        until(lambda: was_told(kubectl, "requests were still in flight after 4 s"), within_s=10)
    asks(kubectl)
    until(lambda: is_as_asked(kubectl, 2), within_s=120, otherwise=lambda: conditions(kubectl, "qwen"))


def evict(kubectl: Kubectl, pod: str) -> None:
    """Raises Refused."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kubectl.namespace}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(body))


@pytest.mark.timeout(240)
def test_a_node_drain_takes_one_engine_and_the_budget_keeps_the_other(kubectl: Kubectl, own_node: Node):
    scaled(kubectl, 2)
    (node,) = kubectl.get("nodes")["items"]
    name = node["metadata"]["name"]
    drain = ("drain", name, "--pod-selector=kvpool.dev/pool=qwen,kvpool.dev/role=engine")
    flags = ("--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=8s")
    try:
        with pytest.raises(Refused, match=r"would violate the pod's disruption budget|global timeout"):
            kubectl(*drain, *flags, timeout_s=60)
        until(lambda: conditions(kubectl, "qwen")["WorkloadReady"]["status"] == "False", within_s=20)
        ready = [pod for pod in alive(kubectl) if pod["spec"].get("nodeName")]
        assert len(ready) == 1, "the budget allows one to be away, and its replacement has no node"
        with pytest.raises(Refused, match="disruption budget"):
            evict(kubectl, ready[0]["metadata"]["name"])
    finally:
        kubectl("uncordon", name)
    until(lambda: is_as_asked(kubectl, 2), within_s=90, otherwise=lambda: conditions(kubectl, "qwen"))


@pytest.mark.timeout(240)
def test_router_and_operator_gone_together_leave_the_engines_as_they_are(kubectl: Kubectl):
    scaled(kubectl, 2)
    before = {(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in alive(kubectl)}
    now = ("--grace-period=0", "--force", "--wait=false")
    kubectl("delete", "pods", "--namespace", NAMESPACE, "--all", *now)
    kubectl("delete", "pods", "--selector", "kvpool.dev/pool=qwen,kvpool.dev/role=router", *now)
    wait_until_ready(kubectl, "qwen")
    kubectl(
        "--namespace", NAMESPACE, "wait", "--for=condition=Available", "deployment/kvpool-operator", "--timeout=60s"
    )
    until(lambda: conditions(kubectl, "qwen")["RouterReady"]["status"] == "True")
    after = {(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in alive(kubectl)}
    assert after == before


@pytest.mark.timeout(240)
def test_an_api_server_that_is_away_for_half_a_minute_stops_no_traffic(
    kubectl: Kubectl, own_node: Node, streams: Streams
):
    before = streams.told()
    faults.kill(own_node, "kube-apiserver")
    try:
        time.sleep(30)  # how long it is away is the point
    finally:
        faults.start(own_node, "kube-apiserver")
    until(lambda: answers(kubectl), within_s=60)
    told = streams.told()
    assert told["ok"] - before["ok"] > 24 * 3, "each lane has gone on"
    assert told["failures"] == 0, told["failed"]
    kubectl("delete", "networkpolicy", "qwen")
    begun = time.monotonic()
    until(lambda: is_there(kubectl, "networkpolicy.networking.k8s.io/qwen"), within_s=60)
    print(f"away for 30 s; then what was deleted was there again in {time.monotonic() - begun:.0f} s")  # noqa: T201
    assert streams.end()["failures"] == 0


def is_there(kubectl: Kubectl, name: str) -> bool:
    return name in kubectl("get", name.partition("/")[0], "--output", "name").split()


def answers(kubectl: Kubectl) -> bool:
    try:
        kubectl("get", POOLS)
    except Refused:
        return False
    return True

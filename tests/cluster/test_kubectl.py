"""kubectl is the interface: what a user types by habit shows, waits for, changes and explains pools."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl, Refused, own_namespace, until
from pools_in_cluster import MODEL, POOLS, Client, conditions, engines, pool, wait_until_ready

BIN = Path(sys.executable).parent
PROMPT = "You answer in one word. " * 80


@pytest.fixture(scope="module")
def kubectl(operator_in_cluster: Kubectl) -> Iterator[Kubectl]:
    """In a namespace with one pool that is ready."""
    with own_namespace(operator_in_cluster) as inside:
        inside.apply(pool("qwen"))
        wait_until_ready(inside)
        yield inside


@pytest.fixture(scope="module")
def asked(kubectl: Kubectl) -> str:
    """The id of the last of some requests: the first nowhere in cache, the others there but for their last block."""
    client = Client(kubectl)
    client.start()
    answers = client.complete("http://qwen", [PROMPT] * 4)
    assert answers[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    return str(answers[-1]["id"])


def table(text: str) -> dict[str, str]:
    """The one row under its columns' names, by where the names begin."""
    head, row = text.splitlines()
    names = head.replace("ROUTER URL", "ROUTER_URL").split()
    starts = [head.replace("ROUTER URL", "ROUTER_URL").index(name) for name in names]
    return {name: row[start:end].strip() for name, start, end in zip(names, starts, [*starts[1:], None], strict=True)}


@pytest.mark.usefixtures("asked")
def test_get_shows_model_readiness_hit_rate_queue_and_why(kubectl: Kubectl):
    until(lambda: table(kubectl("get", POOLS, "qwen"))["HIT%"], within_s=45)
    shown = table(kubectl("get", POOLS, "qwen"))
    assert list(shown) == ["NAME", "MODEL", "READY", "DESIRED", "HIT%", "QUEUE", "WHY", "AGE"]
    assert (shown["MODEL"], shown["READY"], shown["DESIRED"], shown["WHY"]) == (MODEL, "1", "1", "Ready")
    assert 50 < int(shown["HIT%"]) < 100
    wide = table(kubectl("get", POOLS, "qwen", "--output", "wide"))
    assert list(wide)[-3:] == ["PREDICTED%", "KV%", "ROUTER_URL"]
    # A prompt that no engine tokenized in time has no prediction; none foretells what is not there.
    assert 0 < int(wide["PREDICTED%"]) <= int(wide["HIT%"])
    assert wide["ROUTER_URL"] == f"http://qwen.{kubectl.namespace}.svc"


def test_describe_tells_every_condition_and_what_has_happened(kubectl: Kubectl):
    told = kubectl("describe", POOLS, "qwen")
    for sentence in ("1 of 1 engines are routable", "the map of 1 workers is exact", "nothing is amiss"):
        assert sentence in told
    happened = told[told.index("\nEvents:") :]
    assert "Ready is True: 1 of 1 engines are routable" in happened
    assert "kvpool-operator" in happened


def test_explain_knows_every_field_by_a_sentence(kubectl: Kubectl):
    everything = kubectl("explain", "--recursive", POOLS)
    for field in ("syncTimeoutSeconds", "onOperatorUpgrade", "startupTimeoutSeconds", "routableReplicas"):
        assert field in everything
    told = " ".join(kubectl("explain", f"{POOLS}.spec.drain.timeoutSeconds").split())
    assert "How long requests in flight may take to end before the engine is deleted all the same." in told


def test_wait_ends_when_a_pool_is_ready_and_says_so_when_it_is_not(kubectl: Kubectl):
    assert "condition met" in kubectl("wait", "--for=condition=Ready", POOLS, "qwen", "--timeout=10s")
    with pytest.raises(Refused, match="timed out"):
        kubectl("wait", "--for=condition=Degraded", POOLS, "qwen", "--timeout=1s")


def test_field_selectors_find_pools_by_model(kubectl: Kubectl):
    def found(model: str) -> str:
        return kubectl("get", POOLS, "--field-selector", f"spec.model.name={model}", "--output", "name").strip()

    assert found(MODEL) == "inferencepool.kvpool.dev/qwen"
    assert found("another") == ""


def test_events_of_a_pool_are_found_by_its_kind(kubectl: Kubectl):
    assert "Ready is True" in kubectl("events", "--for", "inferencepool.kvpool.dev/qwen")


def test_scale_changes_the_engines_and_its_count_is_their_true_one(kubectl: Kubectl):
    kubectl("scale", POOLS, "qwen", "--replicas=2")
    kubectl("wait", "--for=jsonpath={.status.routableReplicas}=2", POOLS, "qwen", "--timeout=60s", timeout_s=70)
    path = f"/apis/kvpool.dev/v1alpha1/namespaces/{kubectl.namespace}/inferencepools/qwen/scale"
    scale = json.loads(kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 2
    selected = kubectl.get("pods", "--selector", scale["status"]["selector"])["items"]
    assert {pod["metadata"]["name"] for pod in selected} == {
        pod["metadata"]["name"] for pod in engines(kubectl, "qwen")
    }
    kubectl("scale", POOLS, "qwen", "--current-replicas=2", "--replicas=1")
    until(lambda: len(engines(kubectl, "qwen")) == 1, otherwise=lambda: kubectl("get", "pods"))
    assert conditions(kubectl, "qwen")["Ready"]["status"] == "True"


@pytest.mark.usefixtures("asked")
def test_a_paused_pool_stays_as_it_is_and_serves_until_it_may_go_on(kubectl: Kubectl):
    def seen_by_the_operator() -> bool:
        found = kubectl.get(POOLS, "qwen")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    kubectl("patch", POOLS, "qwen", "--type=merge", "--patch", '{"spec":{"paused":true}}')
    kubectl("wait", "--for=condition=Paused", POOLS, "qwen", "--timeout=10s")
    assert table(kubectl("get", POOLS, "qwen"))["WHY"] == "Paused"
    kubectl("delete", "pdb", "qwen")
    kubectl("scale", POOLS, "qwen", "--replicas=2")
    until(seen_by_the_operator)
    assert len(engines(kubectl, "qwen")) == 1
    assert "poddisruptionbudget.policy/qwen" not in kubectl("get", "pdb", "--output", "name").split()
    assert Client(kubectl).complete("http://qwen", ["Go on."])
    kubectl("patch", POOLS, "qwen", "--type=merge", "--patch", '{"spec":{"paused":false,"replicas":1}}')
    kubectl("wait", "--for=create", "pdb/qwen", "--timeout=10s")
    kubectl("wait", "--for=condition=Paused=False", POOLS, "qwen", "--timeout=10s")
    told = kubectl("events", "--for", "inferencepool.kvpool.dev/qwen")
    assert "Paused is True" in told
    assert "Paused is False" in told


def test_diff_is_empty_for_what_is_there_and_shows_what_would_change(kubectl: Kubectl):
    assert diff(kubectl, pool("qwen", replicas=1)) == (0, "")
    code, told = diff(kubectl, pool("qwen", replicas=1, drain={"timeoutSeconds": 7}))
    changes = [line for line in told.splitlines() if line[:2] in ("+ ", "- ") and "generation" not in line]
    assert (code, changes) == (1, ["-    timeoutSeconds: 300", "+    timeoutSeconds: 7"])


def diff(kubectl: Kubectl, manifest: object) -> tuple[int, str]:
    """kubectl's exit code is 1 where there is a difference."""
    argv = kubectl.argv("diff", "--server-side", "--field-manager=kubectl", "--force-conflicts", "--filename", "-")
    done = subprocess.run(argv, input=json.dumps(manifest), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout


def test_server_side_apply_names_who_else_sets_a_field(kubectl: Kubectl):
    mine = json.dumps({**pool("shared"), "spec": {**pool("shared")["spec"], "replicas": 0}})
    theirs = mine.replace('"replicas": 0', '"replicas": 1')
    kubectl("apply", "--server-side", "--field-manager=mine", "--filename", "-", stdin=mine)
    with pytest.raises(Refused, match=r'conflict with "mine".*spec\.replicas'):
        kubectl("apply", "--server-side", "--field-manager=theirs", "--filename", "-", stdin=theirs)
    until(lambda: conditions(kubectl, "shared"))
    managers = {
        each["manager"] for each in kubectl.get("--show-managed-fields", POOLS, "shared")["metadata"]["managedFields"]
    }
    assert managers == {"mine", "kvpool-operator-status"}, "the operator writes a pool's status and nothing else of it"
    kubectl("delete", POOLS, "shared", "--timeout=30s")


def test_a_deleted_pool_takes_all_that_it_owns_with_it(kubectl: Kubectl):
    kubectl.apply(pool("gone"))
    until(lambda: conditions(kubectl, "gone"))
    kinds = "deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,pdb,networkpolicies,pods"

    def left() -> list[str]:
        """Without Pods that are on their way out."""
        found = kubectl.get(kinds, "--selector", "kvpool.dev/pool=gone")["items"]
        return [each["kind"] for each in found if "deletionTimestamp" not in each["metadata"] or each["kind"] != "Pod"]

    until(lambda: set(left()) >= {"Pod", "Deployment", "Secret", "NetworkPolicy"}, otherwise=left)
    kubectl("delete", POOLS, "gone", "--timeout=30s")
    until(lambda: not left(), otherwise=left)


def plugin(kubectl: Kubectl, *words: str) -> str:
    """`kubectl kvpool ...`, as kubectl finds and starts it."""
    env = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "160"}
    argv = [kubectl.program, "kvpool", *words, "--namespace", kubectl.namespace]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("asked")
def test_the_plugin_tells_each_engines_cache(kubectl: Kubectl):
    told = plugin(kubectl, "status")
    assert f"qwen  ready  http://qwen.{kubectl.namespace}.svc" in told
    assert "EXACT" in told
    (found,) = json.loads(plugin(kubectl, "status", "--json"))
    assert found["name"] == "qwen"


def test_the_plugin_tells_why_a_request_went_where_it_went(kubectl: Kubectl, asked: str):
    told = plugin(kubectl, "explain", asked)
    (engine,) = engines(kubectl, "qwen")
    assert asked.removeprefix("cmpl-") in told
    assert engine["metadata"]["name"].removeprefix("qwen-") in told

"""`kubectl kvpool` against a real API server. Nothing runs Pods there, so nothing can be forwarded to."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from control_planes import NAMESPACES
from engine_pods import engine_pod
from kubectl import from_environment
from kvnode import control_plane
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.labels import engine_selector, router_selector
from kvpool_operator.cluster.kube import KubeCluster

POOL = {"apiVersion": "kvpool.dev/v1alpha1", "kind": "InferencePool"}
POD = {"apiVersion": "v1", "kind": "Pod"}
NOW = "2026-01-01T00:00:00Z"


async def ready_pool(cluster: KubeCluster, namespace: str) -> None:
    """As the operator would leave it, with an engine and a router that no node runs."""
    metadata = {"name": "qwen", "namespace": namespace}
    await cluster.create({**POOL, "metadata": metadata, "spec": {"model": {"name": "m"}}}, manager="t")
    ready = {"type": "Ready", "status": "True", "reason": "AllReady", "message": "", "lastTransitionTime": NOW}
    status = {"observedGeneration": 1, "routableReplicas": 1, "conditions": [{**ready, "observedGeneration": 1}]}
    await cluster.apply({**POOL, "metadata": metadata, "status": status}, manager="s", force=True, subresource="status")
    for name, labels in (("qwen-1-0", engine_selector("qwen")), ("qwen-router-1", router_selector("qwen"))):
        pod = {"name": name, "namespace": namespace, "labels": labels}
        containers = [{"name": "engine", "image": "any"}]
        await cluster.create({**POD, "metadata": pod, "spec": {"containers": containers}}, manager="t")
        told = engine_pod(name)["status"]
        statuses = [{"name": "engine", "ready": True, "restartCount": 0, "image": "any", "imageID": ""}]
        told = {**told, "containerStatuses": statuses}
        await cluster.apply({**POD, "metadata": pod, "status": told}, manager="k", force=True, subresource="status")


async def kvpool(*words: str | Path) -> tuple[int, str, str]:
    return await ran(sys.executable, "-m", "kvpool_cli.main", *map(str, words))


async def ran(*words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, **(env or {})},
    )
    return done.returncode, done.stdout, done.stderr


async def test_a_pool_is_shown_and_a_router_that_no_node_runs_is_said_in_the_api_servers_words(
    plane, namespace, cluster
):
    await ready_pool(cluster, namespace)
    token = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "qwen-admin", "namespace": namespace}}
    where = ("--kubeconfig", plane.kubeconfig, "-n", namespace)
    code, shown, _ = await kvpool("status", *where)
    assert (code, "there is no Secret qwen-admin" in shown) == (0, True)
    await cluster.create({**token, "data": {"token": "c2VjcmV0"}}, manager="t")
    code, shown, said = await kvpool("status", "qwen", *where)
    assert (code, said) == (0, "")
    assert "router qwen-router-1 cannot be asked: pod qwen-router-1 does not have a host assigned" in shown
    assert "AllReady" in shown
    assert any(line.split()[:2] == ["1-0", "ready"] for line in shown.splitlines())
    code, shown, _ = await kvpool("status", "--json", *where)
    (told,) = json.loads(shown)
    assert (told["name"], told["namespace"], told["ready"]) == ("qwen", namespace, True)
    code, _, said = await kvpool("explain", *where)
    assert (code, said.count("\n")) == (1, 1)
    assert "does not have a host assigned" in said


async def test_kubectl_finds_the_plugin_which_looks_where_its_context_says(plane, namespace, cluster):
    await ready_pool(cluster, namespace)
    kubectl = from_environment().program
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "KUBECONFIG": str(plane.kubeconfig)}
    code, shown, said = await ran(kubectl, "kvpool", "status", "qwen", "-n", namespace, env=path)
    assert (code, said) == (0, "")
    assert "AllReady" in shown
    code, _, said = await ran(kubectl, "kvpool", "status", "nope", "-n", namespace, env=path)
    assert code == 2
    assert f"kubectl kvpool: namespace {namespace} of context" in said
    assert "has no pool nope; it has: qwen" in said


async def test_a_user_without_rights_is_told_which_and_sees_what_the_rights_allow(plane, namespace, cluster, tmp_path):
    await ready_pool(cluster, namespace)
    user = limited(plane, namespace, tmp_path)
    code, _, said = await kvpool("status", "--kubeconfig", user, "-n", namespace)
    assert code == 1
    assert "may not list inferencepools.kvpool.dev" in said
    assert "ask for a Role with get and list of inferencepools.kvpool.dev, list of pods" in said
    grant(plane, namespace)
    code, shown, _ = await kvpool("status", "--kubeconfig", user, "-n", namespace)
    assert code == 0
    assert "the routers cannot be asked: system:serviceaccount:" in shown
    assert "may not get secrets" in shown


def limited(plane: Running, namespace: str, folder: Path) -> Path:
    """A kubeconfig of the namespace's default service account."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = Api(plane.kubeconfig).post(f"{NAMESPACES}/{namespace}/serviceaccounts/default/token", asked)
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": json.loads(answer)["status"]["token"]}
    (folder / "limited").write_text(json.dumps(config))
    return folder / "limited"


def grant(plane: Running, namespace: str) -> None:
    """Pools and Pods, not Secrets."""
    api, rbac = Api(plane.kubeconfig), f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "reader"}}
    verbs = ["get", "list"]
    rules = [
        {"apiGroups": ["kvpool.dev"], "resources": ["inferencepools"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
    ]
    api.post(f"{rbac}/roles", {**kind, "kind": "Role", "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]
    api.post(f"{rbac}/rolebindings", {**kind, "kind": "RoleBinding", "roleRef": role, "subjects": subjects})


async def test_a_pool_that_nobody_has_looked_at_says_that_no_operator_is_there(plane, namespace, cluster):
    metadata = {"name": "new", "namespace": namespace}
    await cluster.create({**POOL, "metadata": metadata, "spec": {"model": {"name": "m"}}}, manager="t")
    code, shown, _ = await kvpool("status", "--kubeconfig", plane.kubeconfig, "-n", namespace)
    assert code == 1
    assert "the operator has not looked at it yet" in shown


async def test_a_cluster_without_the_resource_says_that_kvpool_is_not_installed(tmp_path):
    with control_plane.start(tmp_path / "state") as bare:
        for words in (["status"], ["status", "qwen"], ["explain"]):
            code, _, said = await kvpool(*words, "--kubeconfig", bare.kubeconfig)
            assert code == 1
            assert "does not know inferencepools.kvpool.dev: kvpool is not installed there" in said
            assert said.count("\n") == 1

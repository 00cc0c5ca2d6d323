"""Control planes without nodes that know InferencePools, for tests: nothing runs Pods there."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

from kubectl import Kubectl
from kvnode import build, cache, control_plane
from kvnode.api import Api
from kvnode.control_plane import Running
from kvpool_api.crd import custom_resource_definition

NAMESPACES = "/api/v1/namespaces"


@contextmanager
def pool_plane(folder: Path) -> Iterator[Running]:
    with control_plane.start(folder) as plane:
        install_crd(plane)
        yield plane


def install_crd(plane: Running) -> None:
    api = Api(plane.kubeconfig)
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", custom_resource_definition())
    wait_until(lambda: api.answers("/apis/kvpool.dev/v1alpha1/inferencepools"))


def new_namespace(plane: Running) -> str:
    """One in which Pods can be made."""
    api, name = Api(plane.kubeconfig), f"t-{uuid4().hex[:8]}"
    api.post(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_until(lambda: api.answers(f"{NAMESPACES}/{name}/serviceaccounts/default"))
    return name


def kubectl_of(plane: Running, namespace: str = "default") -> Kubectl:
    return Kubectl(str(build.ensure(cache.root()) / "kubectl"), plane.kubeconfig, namespace)


def forget_versions_before(plane: Running, version: str) -> None:
    """Neither etcd has them nor the API server's memory; each alone would still serve a watch."""
    body = json.dumps({"revision": version, "physical": True}).encode()
    url = f"{plane.plane.addresses.etcd_url}/v3/kv/compaction"
    build_opener(ProxyHandler({})).open(Request(url, body, {"Content-Type": "application/json"}), timeout=10).close()  # noqa: S310
    restart_api_server(plane)


def restart_api_server(plane: Running) -> None:
    plane.kill("kube-apiserver")
    plane.start("kube-apiserver")
    plane.wait_until_ready()


def written_since(plane: Running, line: int) -> list[dict[str, Any]]:
    """Writes that the audit log tells after that line, whoever wrote."""
    entries = (json.loads(text) for text in plane.audit_log.read_text().splitlines()[line:])
    return [entry for entry in entries if entry["verb"] in ("create", "update", "patch", "delete")]


def wait_until(condition: Callable[[], object], within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s:.0f} s"
        time.sleep(0.05)

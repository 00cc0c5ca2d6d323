"""A control plane alone, on loopback, without root: tests write the status of Pods themselves."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl, Refused, own_namespace, until
from kvnode import control_plane, namespaces
from kvnode.control_plane import Running
from kvnode.failure import NodeFailure

PATHS = {"PYTHONPATH": str(namespaces.PACKAGE_PARENT)}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with control_plane.start(tmp_path_factory.mktemp("plane") / "state") as running:
        yield running


@pytest.fixture
def kubectl(plane: Running, admin: Kubectl) -> Iterator[Kubectl]:
    with own_namespace(Kubectl(admin.program, plane.kubeconfig)) as inside:
        yield inside


def runs(folder: Path) -> list[str]:
    """The command lines of processes that name `folder`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [" ".join(words)] if any(str(folder) in word for word in words) else []
    return found


def test_a_pod_is_what_the_test_says_it_is(kubectl):
    kubectl("run", "one", "--image=any")
    status = '{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}'
    kubectl("patch", "pod", "one", "--subresource=status", "--type=merge", f"--patch={status}")
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=5s")


def test_what_a_deleted_owner_owned_is_collected(kubectl):
    kubectl("create", "configmap", "owner")
    uid = kubectl.get("configmap", "owner")["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    metadata = {"name": "owned", "ownerReferences": [reference]}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    kubectl("delete", "configmap", "owner")
    until(lambda: "owned" not in kubectl("get", "configmaps", "--output", "name"))


def test_the_api_server_loses_nothing_when_it_is_killed(plane, kubectl):
    kubectl("create", "configmap", "kept")
    plane.kill("kube-apiserver")
    with pytest.raises(Refused, match="refused"):
        kubectl("get", "configmaps")
    plane.start("kube-apiserver")
    plane.wait_until_ready()
    assert "kept" in kubectl("get", "configmaps", "--output", "name")


def test_a_paused_api_server_hangs_and_goes_on(plane, kubectl):
    plane.pause("kube-apiserver")
    with pytest.raises(Refused, match="exceeded"):
        kubectl("get", "configmaps", "--request-timeout=1s")
    plane.resume("kube-apiserver")
    kubectl("get", "configmaps")


def test_several_run_at_once_and_end_without_a_trace(tmp_path):
    started: list[Running] = []
    threads = [
        threading.Thread(target=lambda n=n: started.append(control_plane.start(tmp_path / str(n)))) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({running.kubeconfig.read_text() for running in started}) == 2
        assert len(runs(tmp_path)) == 6
    finally:
        for running in started:
            running.stop()
    assert runs(tmp_path) == []


def test_one_that_cannot_start_says_the_last_words_of_what_failed_and_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(
        control_plane, "etcd", lambda *_: control_plane.Program("etcd", ("sh", "-c", "echo no disk; exit 3"))
    )
    with pytest.raises(NodeFailure, match=r"(?s)etcd ended with 3; its last words:.*no disk"):
        control_plane.start(tmp_path / "state")
    assert runs(tmp_path) == []


def test_it_ends_with_the_process_that_started_it_however_that_ends(tmp_path):
    starts = f"""
import time
from pathlib import Path
from kvnode import control_plane, namespaces
plane = control_plane.start(Path({str(tmp_path)!r}) / "state")
print("started", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, env=os.environ | PATHS) as starter:
        try:
            assert starter.stdout is not None
            assert starter.stdout.readline() == b"started\n"
            assert len(runs(tmp_path / "state")) == 3
        finally:
            starter.kill()
    until(lambda: runs(tmp_path / "state") == [], within_s=10)

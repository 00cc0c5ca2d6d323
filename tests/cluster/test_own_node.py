"""A node of our own: its parts stop and start again, it reaches nobody outside, and its end leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl, Refused, until
from kvnode import faults, namespaces
from kvnode.down import down
from kvnode.failure import NodeFailure
from kvnode.node import Node
from kvnode.up import is_up, up


@pytest.fixture
def other(own_node: Node) -> Iterator[Node]:
    """Another node beside the one that the tests run in."""
    node = Node("other")
    down(node.name)
    yield node
    down(node.name)


FOLDERS = (
    "/etc/cni",
    "/opt/containerd",
    "/run/containerd",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/kvpool-node/other",
    "/var/log/containers",
    "/var/log/pods",
)
SETTINGS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")
OURS = ("kvpool-other", "kvpool-node/other", "/cni-", "kubelet", "containerd")


def traces() -> set[str]:
    """What a node could leave on this machine; what others do here at the same time is not in it."""
    found = {f"folder {name}" for name in FOLDERS if Path(name).exists()}
    found |= {f"setting {name} = {Path('/proc/sys', name).read_text()}" for name in SETTINGS}
    found |= {f"mount {path}" for path in mounted() if any(part in path for part in OURS)}
    found |= {f"netns {path}" for path in Path("/run/netns").iterdir() if any(part in str(path) for part in OURS)}
    found |= {f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob("**/kvpool-other*")}
    found |= {f"link {link['ifname']}" for link in json.loads(subprocess.check_output(["ip", "-json", "link"]))}
    return found | {f"process {line}" for line in processes_of("other")}


def mounted() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def processes_of(name: str) -> list[str]:
    listed = subprocess.check_output(["ps", "-eo", "args"], text=True)
    return [line for line in listed.splitlines() if f"kvpool-node/{name}" in line or f"kvnode.init {name}" in line]


def run_a_pod(node: Node, admin: Kubectl) -> None:
    inside = Kubectl(admin.program, node.kubeconfig)
    enter = ("nsenter", f"--net={node.netns_path}")

    def kubectl(*words: str) -> None:
        subprocess.run((*enter, *inside.argv(*words)), check=True, capture_output=True)

    kubectl("run", "one", "--image=localhost/kvpool/pause:1")
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")


def kill_the_first_process(node: Node) -> None:
    pid = namespaces.init_pid(node)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_every_process(node: Node) -> None:
    for program in (
        "kubelet",
        "kube-apiserver",
        "etcd",
        "containerd",
        "containerd-shim-runc-v2",
        "kube-proxy",
        "pause",
    ):
        for pid in namespaces.pids_of(node, program):
            os.kill(pid, signal.SIGKILL)
    kill_the_first_process(node)


@pytest.mark.parametrize("first", [lambda _: None, kill_the_first_process, kill_every_process])
def test_down_leaves_nothing_of_a_node(first: Callable[[Node], None], other, admin):
    before = traces()
    up(other.name)
    run_a_pod(other, admin)
    assert len(traces() - before) > 10, "what is counted does show a running node"
    first(other)
    down(other.name)
    assert traces() - before == set()


HOLDING = """
import time
from kvnode import lifetime
with lifetime.held("other"):
    print("up", flush=True)
    time.sleep(600)
"""


def ended_while_it_holds(by: signal.Signals) -> None:
    """A program that holds the node for its own length, and is ended once that is up."""
    here = os.environ | {"PYTHONPATH": str(namespaces.PACKAGE_PARENT)}
    del here["KUBECONFIG"]
    with subprocess.Popen([sys.executable, "-c", HOLDING], env=here, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        holder.send_signal(by)


def test_a_killed_program_leaves_a_node_that_the_next_one_replaces_and_one_told_to_end_leaves_nothing(other):
    before = traces()
    ended_while_it_holds(signal.SIGKILL)
    left = namespaces.init_pid(other)
    assert is_up(other)
    ended_while_it_holds(signal.SIGTERM)
    assert left is not None
    assert not namespaces.runs(left)
    assert traces() - before == set()


def test_a_start_that_fails_half_way_says_why_and_leaves_nothing(other):
    before = traces()
    killer = threading.Thread(target=kill_once_there, args=(other, "kube-apiserver"))
    killer.start()
    with pytest.raises(NodeFailure, match=r"(?s)node other did not start: kube-apiserver ended with -9.*its logs: "):
        up(other.name)
    killer.join()
    assert traces() - before == set()


def kill_once_there(node: Node, program: str) -> None:
    end = time.monotonic() + 30
    while not (pids := namespaces.pids_of(node, program)) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_up_again_finds_the_node_and_starts_nothing(own_node):
    first = namespaces.init_pid(own_node)
    running = up(own_node.name)
    assert running.kubeconfig == own_node.kubeconfig
    assert namespaces.init_pid(own_node) == first


def test_a_node_that_was_killed_is_not_up_and_starts_again(other):
    up(other.name)
    kill_the_first_process(other)
    until(lambda: not is_up(other))
    up(other.name)
    assert is_up(other)


def test_the_api_server_is_paused_killed_and_started_again(own_node, kubectl):
    with faults.paused(own_node, "kube-apiserver"), pytest.raises(Refused, match="exceeded"):
        kubectl("get", "pods", "--request-timeout=1s")
    kubectl("get", "pods")
    with faults.stopped(own_node, "kube-apiserver"), pytest.raises(Refused, match="refused"):
        kubectl("get", "pods")
    until(lambda: answers(kubectl))


def answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl("get", "--raw", "/readyz") == "ok"
    except Refused:
        return False


def test_pods_outlive_their_kubelet(own_node, kubectl):
    kubectl("run", "one", "--image=localhost/kvpool/pause:1")
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=60s", timeout_s=70)
    with faults.stopped(own_node, "kubelet"):
        kubectl("label", "pod", "one", "seen=before")
    kubectl("run", "two", "--image=localhost/kvpool/pause:1")
    kubectl("wait", "--for=condition=Ready", "pod/two", "--timeout=60s", timeout_s=70)
    status = kubectl.get("pod", "one")["status"]["containerStatuses"][0]
    assert (status["ready"], status["restartCount"]) == (True, 0)


def test_no_route_leads_out_and_names_outside_do_not_exist(own_node):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as reaching, pytest.raises(OSError, match="unreachable"):
        reaching.connect(("192.0.2.1", 80))
    query = b"\x12\x34\x01\x00\x00\x01" + b"\0" * 6 + b"\x07example\x03org\x00" + b"\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(query, ("10.244.0.1", 53))
        assert asking.recv(512)[3] & 0x0F == 3


def test_the_audit_log_names_who_did_what(own_node, kubectl):
    kubectl("create", "configmap", "noted")
    lines = [line for line in own_node.audit_log.read_text().splitlines() if '"noted"' in line]
    written = [event for event in map(json.loads, lines) if event["objectRef"]["namespace"] == kubectl.namespace]
    assert [(e["user"]["username"], e["verb"], e["level"], e["stage"]) for e in written] == [
        ("admin", "create", "Metadata", "ResponseComplete")
    ]

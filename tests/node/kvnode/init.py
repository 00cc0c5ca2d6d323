"""The first process of a node's namespaces: starts the node's programs, says when it is Ready, and buries orphans.

    ip netns add ── nsenter --net ── unshare --pid --mount ── python -m kvnode.init NAME BIN
                                                                ├── etcd, kube-apiserver, containerd, kubelet, ...
                                                                └── every shim and container, once its parent is gone

Whatever a node ever started is below this process in a pid namespace; when it dies, the kernel kills them all.
"""

import os
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from kvnode import access, containerd, control_plane, dns, kube_proxy, kubelet, mounts, programs
from kvnode.api import Api, node_is_ready
from kvnode.failure import NodeFailure
from kvnode.node import ADDRESSES, HOSTNAME, Node
from kvnode.programs import Program, flags

USERS = (access.SCHEDULER, access.KUBE_PROXY, access.COREDNS, kubelet.USER)
STEP_S = 90.0


class Starting:
    """The programs of one node, started in their order; each step waits for what the next one needs."""

    def __init__(self, node: Node, bin_folder: Path) -> None:
        self._node = node
        self._bin = bin_folder
        self._since = time.monotonic()
        self._plane = control_plane.write(node.state, ADDRESSES, USERS)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for part in (dns, kubelet, kube_proxy):
            part.write(node, self._plane)
        containerd.write(node)
        self._programs = {program.name: program for program in self._all()}
        programs.record(node.programs, self._programs.values())

    def bring_up(self) -> float:
        """Seconds until Ready. Errors: NodeFailure."""
        api = Api(self._node.kubeconfig)
        self._start("etcd", "kube-apiserver", "containerd")
        self._import_pause()
        self._wait("the API server listens", api.speaks)
        self._start("kube-controller-manager", "kube-scheduler")
        self._wait("the API server answers /readyz", lambda: api.answers("/readyz"))
        dns.allow(api)
        self._start("kubelet", "kube-proxy", "coredns")
        self._wait("the node is Ready", lambda: node_is_ready(api, HOSTNAME))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("namespace default has its ServiceAccount", lambda: api.answers(account))
        self._wait("CoreDNS listens", dns.listens)
        self._wait("kube-proxy has written its rules", _answers_locally("http://127.0.0.1:10256/healthz"))
        return time.monotonic() - self._since

    def _all(self) -> tuple[Program, ...]:
        scheduler = flags(kubeconfig=self._plane.kubeconfigs[access.SCHEDULER], leader_elect="false", secure_port=0)
        return (
            *control_plane.parts(self._bin, self._plane),
            Program("kube-scheduler", (str(self._bin / "kube-scheduler"), *scheduler)),
            containerd.program(self._bin, self._node),
            kubelet.program(self._bin, self._node, self._plane),
            kube_proxy.program(self._bin, self._node),
            dns.program(self._bin, self._node),
        )

    def _start(self, *names: str) -> None:
        for name in names:
            self._running[name] = programs.start(self._programs[name], self._node.logs)

    def _import_pause(self) -> None:
        archive = self._node.state / "pause.tar"
        containerd.pack_pause(self._bin / "pause", archive)
        self._wait("containerd listens", self._node.containerd_socket.exists)
        argv = (*containerd.ctr(self._bin, self._node), "images", "import", str(archive))
        self._wait("containerd takes the first image", lambda: _succeeds(argv))

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        programs.wait(what, done, self._all_alive, STEP_S)
        with (self._node.logs / "timeline").open("a") as timeline:
            timeline.write(f"{time.monotonic() - self._since:6.2f} s  {what}\n")

    def _all_alive(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                words = programs.last_words(self._node.logs, name)
                raise NodeFailure(f"{name} ended with {process.returncode}; its last words:\n{words}")


def _succeeds(argv: tuple[str, ...]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _answers_locally(url: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a constant of ours
                return True
        except urllib.error.URLError:
            return False

    return answers


def bury_orphans() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1)


def main(name: str, bin_folder: Path) -> None:
    node = Node(name)
    try:
        mounts.shade(node)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        took = Starting(node, bin_folder).bring_up()
    except (NodeFailure, OSError, subprocess.CalledProcessError) as error:
        node.failed.write_text(str(error) if isinstance(error, NodeFailure) else traceback.format_exc())
        raise SystemExit(1) from None
    node.ready.write_text(f"{took:.1f}")
    bury_orphans()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

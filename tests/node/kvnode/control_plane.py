"""etcd, kube-apiserver and kube-controller-manager: on the node's bridge, or alone on loopback ports for tests.

with control_plane.start(tmp_path / "plane") as plane:      no root, no namespaces, several at once; ready in seconds
    KUBECONFIG=plane.kubeconfig                             nothing runs Pods: whoever tests writes their status
"""

import json
import signal
import socket
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from kvnode import access, build, cache, certificates, programs
from kvnode.api import Api
from kvnode.failure import NodeFailure
from kvnode.programs import Program, flags

SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
READY_S = 60.0


@dataclass(frozen=True)
class Addresses:
    """Where the API server is reached, and the ports that etcd has on loopback."""

    api: str
    api_port: int
    etcd_port: int
    peer_port: int

    @property
    def url(self) -> str:
        return f"https://{self.api}:{self.api_port}"

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"


@dataclass(frozen=True)
class Plane:
    """What is written before anything starts: keys, users, policy; `kubeconfigs` by user."""

    folder: Path
    addresses: Addresses
    authority: certificates.Authority
    kubeconfigs: Mapping[access.User, Path]

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"


def write(folder: Path, addresses: Addresses, more_users: tuple[access.User, ...] = ()) -> Plane:
    keys = folder / "keys"
    keys.mkdir(mode=0o700, parents=True)
    (folder / "logs").mkdir()
    authority = certificates.authority(keys, "ca")
    hosts = [*(f"DNS:{name}" for name in (*NAMES, "localhost")), f"IP:{addresses.api}", f"IP:{FIRST_SERVICE}"]
    authority.server("kube-apiserver", [*hosts, "IP:127.0.0.1"])
    authority.client("kubelet-client", "/O=system:masters/CN=kube-apiserver")
    certificates.authority(keys, "front-proxy-ca").client("front-proxy", "/CN=front-proxy")
    certificates.signing_key(keys, "service-accounts")
    users = (access.ADMIN, access.CONTROLLER_MANAGER, *more_users)
    kubeconfigs = access.grant(keys, addresses.url, authority.certificate, users)
    (folder / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
    access.private(folder / "kubeconfig", kubeconfigs[access.ADMIN].read_text())
    return Plane(folder, addresses, authority, kubeconfigs)


def parts(bin_folder: Path, plane: Plane) -> tuple[Program, ...]:
    return etcd(bin_folder, plane), api_server(bin_folder, plane), controller_manager(bin_folder, plane)


def etcd(bin_folder: Path, plane: Plane) -> Program:
    addresses = plane.addresses
    peers = f"http://127.0.0.1:{addresses.peer_port}"
    words = flags(
        name="kvpool",
        data_dir=plane.folder / "etcd",
        listen_client_urls=addresses.etcd_url,
        advertise_client_urls=addresses.etcd_url,
        listen_peer_urls=peers,
        initial_advertise_peer_urls=peers,
        initial_cluster=f"kvpool={peers}",
        unsafe_no_fsync="true",
    )
    return Program("etcd", (str(bin_folder / "etcd"), *words))


def api_server(bin_folder: Path, plane: Plane) -> Program:
    keys, addresses = plane.folder / "keys", plane.addresses
    words = flags(
        etcd_servers=addresses.etcd_url,
        bind_address=addresses.api,
        advertise_address=addresses.api,
        secure_port=addresses.api_port,
        tls_cert_file=keys / "kube-apiserver.crt",
        tls_private_key_file=keys / "kube-apiserver.key",
        client_ca_file=keys / "ca.crt",
        token_auth_file=keys / "tokens.csv",
        service_account_issuer="https://kubernetes.default.svc.cluster.local",
        service_account_key_file=keys / "service-accounts.pub",
        service_account_signing_key_file=keys / "service-accounts.key",
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        service_cluster_ip_range=SERVICES,
        allow_privileged="true",
        kubelet_preferred_address_types="InternalIP",
        kubelet_certificate_authority=keys / "ca.crt",
        kubelet_client_certificate=keys / "kubelet-client.crt",
        kubelet_client_key=keys / "kubelet-client.key",
        requestheader_client_ca_file=keys / "front-proxy-ca.crt",
        requestheader_allowed_names="front-proxy",
        requestheader_username_headers="X-Remote-User",
        requestheader_group_headers="X-Remote-Group",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        proxy_client_cert_file=keys / "front-proxy.crt",
        proxy_client_key_file=keys / "front-proxy.key",
        audit_policy_file=plane.folder / "audit-policy.json",
        audit_log_path=plane.folder / "audit.log",
        audit_log_maxsize=0,
        endpoint_reconciler_type="none" if addresses.api.startswith("127.") else "lease",
    )
    return Program("kube-apiserver", (str(bin_folder / "kube-apiserver"), *words))


def controller_manager(bin_folder: Path, plane: Plane) -> Program:
    keys = plane.folder / "keys"
    words = flags(
        kubeconfig=plane.kubeconfigs[access.CONTROLLER_MANAGER],
        leader_elect="false",
        secure_port=0,
        root_ca_file=keys / "ca.crt",
        service_account_private_key_file=keys / "service-accounts.key",
        use_service_account_credentials="true",
        flex_volume_plugin_dir=plane.folder / "volume-plugins",
        kube_api_qps=500,  # at its default of 20 it takes 5 s to get going
        kube_api_burst=1000,
    )
    return Program("kube-controller-manager", (str(bin_folder / "kube-controller-manager"), *words))


@dataclass
class Running:
    """A control plane on loopback. What stops parts of it, for tests of faults, goes by the program's name.

    The kernel ends a program with the thread that started it, so a thread that lives as long as this starts them all.
    """

    plane: Plane
    _programs: Mapping[str, Program]
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "kvnode"))

    @property
    def kubeconfig(self) -> Path:
        return self.plane.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.plane.folder / "audit.log"

    def pause(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGCONT)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def start(self, name: str) -> None:
        started = self._starter.submit(programs.start, self._programs[name], self.plane.logs)
        self._processes[name] = started.result()

    def wait_until_it_speaks(self) -> None:
        """The controller manager gives up for good when nobody does within 10 s."""
        programs.wait("the API server listens", Api(self.kubeconfig).speaks, self._alive, READY_S)

    def wait_until_ready(self) -> None:
        """Until the API server answers and a Pod could be created in `default`. Errors: NodeFailure."""
        api = Api(self.kubeconfig)
        programs.wait("the API server answers /readyz", lambda: api.answers("/readyz"), self._alive, READY_S)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        programs.wait("namespace default has its ServiceAccount", lambda: api.answers(account), self._alive, READY_S)

    def stop(self) -> None:
        """Kills what runs; the folder stays, with its logs. Safe to call twice."""
        for name in self._processes:
            self.kill(name)
        self._starter.shutdown()

    def _alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                words = programs.last_words(self.plane.logs, name)
                raise NodeFailure(f"{name} ended with {process.returncode}; its last words:\n{words}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(folder: Path, bin_folder: Path | None = None) -> Running:
    """A control plane whose state is `folder` (must not exist yet); ready when this returns. Errors: NodeFailure.

    Its processes end with the one that started it, whatever ends that, and when nobody holds the result any more.
    """
    bin_folder = bin_folder or build.ensure(cache.root())
    plane = write(folder, loopback())
    made = {program.name: _ending_with_us(program) for program in parts(bin_folder, plane)}
    running = Running(plane, made)
    with ExitStack() as undo:
        undo.callback(running.stop)
        running.start("etcd")
        running.start("kube-apiserver")
        running.wait_until_it_speaks()
        running.start("kube-controller-manager")
        running.wait_until_ready()
        undo.pop_all()
    return running


def loopback() -> Addresses:
    """Ports that were free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for listening in sockets:
            listening.bind(("127.0.0.1", 0))
        api_port, etcd_port, peer_port = (listening.getsockname()[1] for listening in sockets)
    return Addresses("127.0.0.1", api_port, etcd_port, peer_port)


def _ending_with_us(program: Program) -> Program:
    return Program(program.name, ("setpriv", "--pdeathsig", "KILL", *program.argv))

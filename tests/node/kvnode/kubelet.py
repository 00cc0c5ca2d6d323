"""The kubelet: its settings for a node that shares a machine with others and can be thrown away."""

import json
from collections.abc import Mapping
from pathlib import Path

from kvnode import access
from kvnode.control_plane import Plane
from kvnode.node import ADDRESS, HOSTNAME, Node
from kvnode.programs import Program, flags

USER = access.node(HOSTNAME)
TUNED: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets for the whole machine at its start; here it must only believe that it has (see `mounts`)."""


def write(node: Node, plane: Plane) -> None:
    plane.authority.server("kubelet", [f"DNS:{HOSTNAME}", f"IP:{ADDRESS}"])
    (node.state / "resolv.conf").touch()  # nobody outside is asked
    (node.state / "kubelet.json").write_text(json.dumps(_settings(node, plane)))


def program(bin_folder: Path, node: Node, plane: Plane) -> Program:
    words = flags(
        config=node.state / "kubelet.json",
        kubeconfig=plane.kubeconfigs[USER],
        root_dir=node.state / "kubelet",
        node_ip=ADDRESS,
        hostname_override=HOSTNAME,
    )
    return Program("kubelet", (str(bin_folder / "kubelet"), *words))


def _settings(node: Node, plane: Plane) -> dict[str, object]:
    keys = plane.folder / "keys"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "tlsCertFile": str(keys / "kubelet.crt"),
        "tlsPrivateKeyFile": str(keys / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.state / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,  # what a test has loaded must not go when the machine's disk is full
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "nodeStatusUpdateFrequency": "5s",
        "podLogsDir": str(node.state / "pod-logs"),
        "volumePluginDir": str(node.state / "volume-plugins"),
    }

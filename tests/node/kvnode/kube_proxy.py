"""kube-proxy: ClusterIPs by nftables, without the machine-wide limits of conntrack."""

import json
from pathlib import Path

from kvnode import access
from kvnode.control_plane import Plane
from kvnode.node import HOSTNAME, PODS, Node
from kvnode.programs import Program, flags


def write(node: Node, plane: Plane) -> None:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(plane.kubeconfigs[access.KUBE_PROXY])},
        "clusterCIDR": PODS,
        "hostnameOverride": HOSTNAME,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    }
    (node.state / "kube-proxy.json").write_text(json.dumps(settings))


def program(bin_folder: Path, node: Node) -> Program:
    return Program("kube-proxy", (str(bin_folder / "kube-proxy"), *flags(config=node.state / "kube-proxy.json")))

"""CoreDNS, as one more process of the node: names of the cluster, and of nothing else."""

import socket
from pathlib import Path

from kvnode import access
from kvnode.api import Api
from kvnode.control_plane import Plane
from kvnode.node import ADDRESS, Node
from kvnode.programs import Program

ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": access.COREDNS.name},
    "rules": [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": access.COREDNS.name},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": access.COREDNS.name},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": access.COREDNS.name}],
}


def write(node: Node, plane: Plane) -> None:
    (node.state / "Corefile").write_text(f"""cluster.local in-addr.arpa ip6.arpa {{
    bind {ADDRESS}
    errors
    kubernetes {{
        kubeconfig {plane.kubeconfigs[access.COREDNS]} {access.CONTEXT}
        pods insecure
        ttl 1
    }}
}}
. {{
    bind {ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
""")


def allow(api: Api) -> None:
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    api.post(roles, ROLE)
    api.post(roles.replace("clusterroles", "clusterrolebindings"), BINDING)


def program(bin_folder: Path, node: Node) -> Program:
    return Program("coredns", (str(bin_folder / "coredns"), "-conf", str(node.state / "Corefile")))


def listens() -> bool:
    try:
        socket.create_connection((ADDRESS, 53), timeout=1).close()
    except OSError:
        return False
    return True

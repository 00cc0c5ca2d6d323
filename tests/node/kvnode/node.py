"""One node by its name: its addresses, and where on this machine its things are."""

from dataclasses import dataclass
from pathlib import Path

from kvnode.control_plane import Addresses

STATES = Path("/var/lib/kvpool-node")
DEFAULT = "kvpool"
HOSTNAME = "node1"
BRIDGE = "kvpool0"
ADDRESS = "10.244.0.1"
PODS = "10.244.0.0/24"
ADDRESSES = Addresses(ADDRESS, 6443, 2379, 2380)
"""The same for every node: each has a network namespace of its own."""


@dataclass(frozen=True)
class Node:
    """Named after its state folder, so `name` is a word of at most 32 of [a-z0-9-]."""

    name: str = DEFAULT

    @property
    def state(self) -> Path:
        return STATES / self.name

    @property
    def netns(self) -> str:
        return f"kvpool-{self.name}"

    @property
    def netns_path(self) -> Path:
        return Path("/run/netns") / self.netns

    @property
    def cgroup(self) -> str:
        return f"kvpool-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.state / "audit.log"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def programs(self) -> Path:
        return self.state / "programs.json"

    @property
    def ready(self) -> Path:
        """Exists once the node is Ready; holds the seconds that took."""
        return self.state / "ready"

    @property
    def failed(self) -> Path:
        """Exists once the start has failed; holds why."""
        return self.state / "failed"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd.sock"

"""containerd for the node: its settings, its Pod network, and the one image that every Pod needs."""

import json
import platform
import shutil
from hashlib import sha256
from pathlib import Path

from kvnode.archives import tar_of
from kvnode.node import BRIDGE, PODS, Node
from kvnode.programs import Program

PAUSE = "localhost/kvpool/pause:1"
CNI_PLUGINS = Path("/usr/lib/cni")
UNUSED = (
    "io.containerd.internal.v1.opt",  # makes /opt/containerd on the machine
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.tracing.processor.v1.otlp",
)


def write(node: Node) -> None:
    folder = node.state / "cni"
    folder.mkdir()
    (folder / "10-bridge.conflist").write_text(json.dumps(_network(node)))
    (node.state / "containerd.toml").write_text(_settings(node))


def program(bin_folder: Path, node: Node) -> Program:
    path = f"PATH={bin_folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where it finds its shim
    started = (str(bin_folder / "containerd"), "--config", str(node.state / "containerd.toml"))
    return Program("containerd", ("/usr/bin/env", path, *started))


def ctr(bin_folder: Path, node: Node) -> tuple[str, ...]:
    return str(bin_folder / "ctr"), "--address", str(node.containerd_socket), "--namespace", "k8s.io"


def _settings(node: Node) -> str:
    # Without CAP_SYS_RESOURCE a container may not be given a lower oom score than ours: hence restrict_oom_score_adj.
    return f"""
version = 3
root = "{node.state}/containerd"
state = "/run/containerd"
disabled_plugins = {json.dumps(UNUSED)}

[grpc]
address = "{node.containerd_socket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{shutil.which("runc")}"
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{node.state}/cni"
"""


def _network(node: Node) -> dict[str, object]:
    ranges = {"ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": f"{node.state}/cni-addresses", **ranges},
    }
    return {
        "cniVersion": "1.0.0",
        "name": "kvpool",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def pack_pause(program: Path, archive: Path) -> None:
    """An OCI archive of one static program: what `ctr images import` takes, without a tool to build it."""
    layer = tar_of({"pause": program.read_bytes()}, 0o755)
    blobs = [layer]

    def described(kind: str, content: bytes) -> dict[str, object]:
        blobs.append(content)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{sha256(content).hexdigest()}", "size": len(content)}

    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", json.dumps(config).encode()),
        "layers": [described("layer.v1.tar", layer)],
    }
    listed = described("manifest.v1+json", json.dumps(manifest).encode())
    listed["annotations"] = {"io.containerd.image.name": PAUSE, "org.opencontainers.image.ref.name": "1"}
    files = {f"blobs/sha256/{sha256(blob).hexdigest()}": blob for blob in blobs}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [listed]}).encode()
    archive.write_bytes(tar_of(files, 0o755))


def _architecture() -> str:
    """In Go's words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

"""What the node's programs see of the machine's files: all of it, but what they would leave behind is their own.

They run in a mount namespace of their own. The folders to which kubelet, containerd and network plugins write by fixed
names are empty memory there, and what a kubelet sets in the kernel for the whole machine looks set already. When their
last process ends, the kernel takes all of it back.
"""

import subprocess
from pathlib import Path

from kvnode.kubelet import TUNED
from kvnode.node import Node

SHADED = ("/run", "/var/log")
SHADED_AND_MADE = ("/var/lib/cni", "/var/lib/kubelet")
"""Folders that most machines do not have."""


def make_points(node: Node) -> None:
    """Outside, before the namespace is: what must exist to be mounted over; remembers what it made."""
    made = [name for name in SHADED_AND_MADE if not Path(name).exists()]
    (node.state / "mount-points").write_text("\n".join(made))
    for name in made:
        Path(name).mkdir()


def remove_points(node: Node) -> None:
    remembered = node.state / "mount-points"
    for name in remembered.read_text().splitlines() if remembered.exists() else ():
        if name in SHADED_AND_MADE and Path(name).is_dir() and not any(Path(name).iterdir()):
            Path(name).rmdir()


def shade(node: Node) -> None:
    """Inside the namespace."""
    _mount("--make-rshared", "/")  # volumes of Pods may ask to be passed on
    for name in (*SHADED, *SHADED_AND_MADE):
        _mount("-t", "tmpfs", "-o", "mode=755", "kvpool", name)
    believed = node.state / "tuned"
    believed.mkdir()
    for name, value in TUNED.items():
        path = believed / name.replace("/", "-")
        path.write_text(value + "\n")
        _mount("--bind", str(path), f"/proc/sys/{name}")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)

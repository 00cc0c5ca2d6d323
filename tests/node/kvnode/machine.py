"""What a node of our own needs of the machine, and the command that brings what is missing."""

import os
import shutil
import sys
from pathlib import Path

from kvnode import build, cgroups, containerd
from kvnode.failure import NodeFailure

PROGRAMS = {
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "openssl": "openssl",
}
"""Each with the Debian package that brings it."""
IMAGE_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap"}


def missing(cache_root: Path) -> list[str]:
    """One line a thing, empty when a node can be started here."""
    if sys.platform != "linux":
        return ["a node of our own needs Linux; set KUBECONFIG to a cluster, or start docker and install kind"]
    lines = []
    if os.geteuid() != 0:
        lines.append("a node of our own needs root; run it with sudo, or set KUBECONFIG to a cluster")
    lines += missing_packages(PROGRAMS)
    go = None if build.is_here(cache_root) else build.go_is_missing()
    if go:
        lines.append(go)
    try:
        cgroups.here()
    except NodeFailure as error:
        lines.append(str(error))
    return lines


def missing_packages(wanted: dict[str, str]) -> list[str]:
    packages = {package for program, package in wanted.items() if shutil.which(program) is None}
    if wanted is PROGRAMS and not containerd.CNI_PLUGINS.is_dir():
        packages.add("containernetworking-plugins")
    if not packages:
        return []
    names = " ".join(sorted(packages))
    return [f"Debian packages are missing: {names}; apt-get install --no-install-recommends {names}"]

"""The node's programs, built from Go modules into the cache; a program that is there is not built again.

    <cache>/node/<version>-<digest>/bin/          kube-apiserver, etcd, containerd, coredns, helm, pause, ...
    <cache>/node/<version>-<digest>/<part>.built  stands beside once that part is whole

The digest names all module files and flags, so that two checkouts with other versions do not fight over one folder.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kvnode import cache, versions
from kvnode.failure import NodeFailure

GO = (1, 26)
FLAGS = ("-trimpath", "-buildvcs=false")
GO_MEND = "install Go 1.26 or newer (https://go.dev/doc/install) and put it on PATH"


@dataclass(frozen=True)
class Part:
    """One module and the programs it brings. `renamed`: a program that Go would name after its folder alone."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    tags: str = ""
    stamped: bool = False
    renamed: tuple[str, str] | None = None


KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
PARTS = (
    Part(
        "kubernetes",
        (*(f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_PROGRAMS), "go.etcd.io/etcd/server/v3"),
        (*KUBERNETES_PROGRAMS, "etcd"),
        stamped=True,
        renamed=("server", "etcd"),
    ),
    Part(
        "containerd",
        tuple(
            f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Part("coredns", ("github.com/coredns/coredns",), ("coredns",)),
    Part("helm", ("helm.sh/helm/v4/cmd/helm",), ("helm",)),
    Part("pause", (".",), ("pause",)),
)


def folder(root: Path) -> Path:
    whole = hashlib.sha256("".join(versions.digest_of(part.name) + repr(part) for part in PARTS).encode())
    return root / "node" / f"{versions.kubernetes()}-{whole.hexdigest()[:12]}"


def is_here(root: Path) -> bool:
    return all(_is_built(folder(root), part) for part in PARTS)


def ensure(root: Path) -> Path:
    """The folder of programs; what is missing is built first (about 12 minutes from nothing on 2 cores)."""
    target = folder(root)
    if not is_here(root):
        with cache.locked(target):
            for part in PARTS:
                if not _is_built(target, part):
                    _build(part, target)
    return target / "bin"


def go_is_missing() -> str | None:
    """What is wrong with this machine's Go, with the mend; None when it will do."""
    go = shutil.which("go")
    if go is None:
        return f"Go is not on PATH; {GO_MEND}"
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    numbers = re.match(r"go(\d+)\.(\d+)", said)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < GO:
        return f"{go} is {said or 'no Go that answers'}; {GO_MEND}"
    return None


def _is_built(target: Path, part: Part) -> bool:
    return (target / f"{part.name}.built").exists()


def _build(part: Part, target: Path) -> None:
    missing = go_is_missing()
    if missing:
        raise NodeFailure(missing)
    since = time.monotonic()
    print(f"building {', '.join(part.programs)}", file=sys.stderr, flush=True)  # noqa: T201
    bin_folder = target / "bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    argv = ["go", "build", *FLAGS, "-tags", part.tags, "-ldflags", _linker_flags(part), "-o", f"{bin_folder}/"]
    built = subprocess.run(
        [*argv, *part.packages], cwd=versions.MODULES / part.name, env=os.environ | {"CGO_ENABLED": "0"}, check=False
    )
    if built.returncode:
        raise NodeFailure(
            f"building {part.name} failed, for the reason above; run it again: what is built is kept in {target}"
        )
    if part.renamed:
        (bin_folder / part.renamed[0]).rename(bin_folder / part.renamed[1])
    (target / f"{part.name}.built").touch()
    print(f"built in {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)  # noqa: T201


def _linker_flags(part: Part) -> str:
    if not part.stamped:
        return "-s -w"
    version = versions.kubernetes()
    major, minor, _ = version.split(".")
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    words = [f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items()]
    return " ".join(["-s", "-w", *words])

"""Images for the node: built by buildah without a daemon, kept in the cache by what they are made of, loaded by ctr.

archive = build(Path("deploy/images/router/Dockerfile"), "localhost/kvpool/router:0.1.0", context=ROOT)
load(node, archive)                      neither does anything when nothing has changed since
"""

import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from kvnode import base_image, cache, containerd, machine, pip_settings, sources
from kvnode import build as programs
from kvnode.failure import NodeFailure
from kvnode.node import Node

KEPT = 3
"""Archives of one image that the cache holds, so that a few checkouts can take turns."""


def base() -> str:
    """The name that a Dockerfile's `BASE` is given; the image is made the first time (about a minute and a half)."""
    name = base_image.tag()
    if not _is_built(name):
        with cache.locked(_folder()):
            if not _is_built(name):
                with TemporaryDirectory(dir=_folder()) as context:
                    base_image.make_context(Path(context))
                    _buildah("build", "--tag", name, context)
    return name


def build(dockerfile: Path, tag: str, build_args: Mapping[str, str] | None = None, context: Path | None = None) -> Path:
    """The image, as an OCI archive in the cache. Without a context it gets the Dockerfile's folder.

    Errors: NodeFailure.
    """
    lacking = machine.missing_packages(machine.IMAGE_PROGRAMS)
    if lacking:
        raise NodeFailure("\n".join(lacking))
    context = context or dockerfile.parent
    words = {"BASE": base(), **(build_args or {})}
    named = tag.replace("/", "_").replace(":", "_")
    digest = sources.digest(dockerfile, context, {"tag": tag, **words})
    archive = _folder() / f"{named}-{digest[:16]}.tar"
    if not archive.exists():  # who only reads need not wait for another image's build
        with cache.locked(_folder()):
            if not archive.exists():
                _build(dockerfile, tag, words, context, archive)
                _forget_older(named)
    os.utime(archive)
    return archive


def load(node: Node, archive: Path) -> None:
    """Into the node's containerd, unless it has just that. Errors: NodeFailure."""
    ctr = containerd.ctr(programs.folder(cache.root()) / "bin", node)
    tag, digest = manifest(archive)
    listed = subprocess.run([*ctr, "images", "list", f"name=={tag}"], capture_output=True, text=True, check=False)
    if digest in listed.stdout:
        return
    done = subprocess.run([*ctr, "images", "import", str(archive)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodeFailure(f"containerd of node {node.name} did not take {archive}: {done.stderr.strip()}")


def manifest(archive: Path) -> tuple[str, str]:
    """The name and the digest of an OCI archive's one image."""
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        if index is None:
            raise NodeFailure(f"{archive} is no OCI archive")
        described = json.load(index)["manifests"][0]
    return described["annotations"]["org.opencontainers.image.ref.name"], described["digest"]


def _is_built(name: str) -> bool:
    return _buildah("images", "--quiet", name, may_fail=True).strip() != ""


def _build(dockerfile: Path, tag: str, words: Mapping[str, str], context: Path, archive: Path) -> None:
    with TemporaryDirectory(dir=_folder()) as scratch:
        mounted = pip_settings.volumes(pip_settings.here(), Path(scratch) / "pip.conf")
        options = [f"--volume={volume}" for volume in mounted]
        options += [f"--build-arg={name}={value}" for name, value in words.items()]
        _buildah("build", *options, "--network", "host", "--file", str(dockerfile), "--tag", tag, str(context))
        half_made = Path(scratch) / "image.tar"
        _buildah("push", tag, f"oci-archive:{half_made}:{tag}")
        _buildah("rmi", "--force", tag)
        half_made.rename(archive)


def _forget_older(named: str) -> None:
    archives = sorted(_folder().glob(f"{named}-*.tar"), key=lambda path: path.stat().st_mtime)
    for old in archives[:-KEPT]:
        old.unlink()


def _folder() -> Path:
    return cache.root() / "images"


def _buildah(command: str, *words: str, may_fail: bool = False) -> str:
    """With a storage of its own: the machine's own images are left alone."""
    store = ("--root", str(_folder() / "storage"), "--runroot", str(_folder() / "run"), "--storage-driver", "vfs")
    isolated = ("--isolation", "chroot") if command == "build" else ()
    argv = ["buildah", *store, command, *isolated, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode and not may_fail:
        raise NodeFailure(f"{' '.join(argv)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout

"""A base image with Python, made by debootstrap from the machine's own Debian: Dockerfiles build on it offline.

It stands in for the public slim image of Python: `python`, `python3`, `pip` and `venv` work, and so do public
certificates; the suite is the machine's, the mirror is the first that its apt sources name for that suite.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kvnode import machine
from kvnode.failure import NodeFailure

PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
TRIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
    "dev",
    "proc",
    "sys",
)
LINKS = {"usr/local/bin/python": "/usr/bin/python3", "usr/local/bin/python3": "/usr/bin/python3"}
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["python3"]
"""


@dataclass(frozen=True)
class Source:
    """Where Debian comes from: as apt has it."""

    mirror: str
    suite: str


def apt_source(os_release: str, apt_files: list[str]) -> Source:
    """From /etc/os-release and the texts of apt's sources, one-line and deb822. Errors: NodeFailure."""
    codename = re.search(r"^VERSION_CODENAME=(\S+)", os_release, re.M)
    if codename is None:
        raise NodeFailure("the base image needs Debian or Ubuntu: /etc/os-release names no VERSION_CODENAME")
    for text in apt_files:
        for mirror, suites in _entries(text):
            if codename[1] in suites:
                return Source(mirror, codename[1])
    raise NodeFailure(f"apt's sources name no mirror for {codename[1]}; add one to /etc/apt/sources.list")


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    for mirror, suite in re.findall(r"^deb\s+(?:\[[^]]*]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", text, re.M):
        yield mirror, [suite]
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.M))
        if "deb" in fields.get("Types", "").split() and "main" in fields.get("Components", "").split():
            yield fields["URIs"].split()[0], fields.get("Suites", "").split()


def here() -> Source:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    texts = [path.read_text(errors="replace") for path in files if path.is_file()]
    return apt_source(Path("/etc/os-release").read_text(), texts)


def tag() -> str:
    """Changes with everything that this module puts into the image, and not with the mirror's daily news."""
    whole = sha256(repr((here().suite, PACKAGES, TRIMMED, LINKS, DOCKERFILE)).encode())
    return f"localhost/kvpool/base:{whole.hexdigest()[:12]}"


def make_context(folder: Path) -> None:
    """Writes `Dockerfile` and `rootfs.tar` (about 150 MB, about a minute). Errors: NodeFailure."""
    lacking = machine.missing_packages(machine.IMAGE_PROGRAMS)
    if lacking:
        raise NodeFailure("\n".join(lacking))
    root = folder / "rootfs"
    source = here()
    options = ("--variant=minbase", f"--include={','.join(PACKAGES)}")
    made = subprocess.run(
        ["debootstrap", *options, source.suite, str(root), source.mirror], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise NodeFailure(f"debootstrap of {source.suite} from {source.mirror} failed:\n{made.stdout[-2000:]}")
    _trim(root)
    subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(folder / "rootfs.tar"), "."], check=True)
    shutil.rmtree(root)
    (folder / "Dockerfile").write_text(DOCKERFILE)


def _trim(root: Path) -> None:
    for name in TRIMMED:
        for path in (root / name).iterdir() if (root / name).is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):  # the public image has none either
        marker.unlink()
    for name, target in LINKS.items():
        (root / name).symlink_to(target)

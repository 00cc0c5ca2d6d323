"""One cgroup a node, in each hierarchy, that holds all of its Pods: what `down` removes is ours alone."""

import time
from dataclasses import dataclass
from pathlib import Path

from kvnode.failure import NodeFailure

NEEDED = ("cpu", "memory", "pids")
MEND = (
    "mount cgroup v2 at /sys/fs/cgroup, or v1 with the controllers cpu, cpuacct, cpuset, memory and pids; "
    "in a container, run it with --privileged --cgroupns=host"
)


@dataclass(frozen=True)
class Hierarchies:
    """Version 1 has a mount a controller (and may have one of version 2 without any), version 2 one for all."""

    version: int
    mounts: tuple[Path, ...]


def hierarchies(mountinfo: str) -> Hierarchies:
    """From the text of /proc/self/mountinfo. Errors: NodeFailure where a kubelet could not make cgroups."""
    first: dict[str, list[tuple[Path, str]]] = {"cgroup": [], "cgroup2": []}
    for line in mountinfo.splitlines():
        fields, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.split(" ", 2)
        if kind in first:
            first[kind].append((Path(fields.split()[4]), options))
    if first["cgroup"]:
        controllers = {word for _, options in first["cgroup"] for word in options.split(",")}
        lacking = [name for name in (*NEEDED, "cpuacct", "cpuset") if name not in controllers]
        if lacking:
            raise NodeFailure(f"cgroup v1 lacks the controllers {', '.join(lacking)}; {MEND}")
        return Hierarchies(1, tuple(path for path, _ in (*first["cgroup"], *first["cgroup2"])))
    if not first["cgroup2"]:
        raise NodeFailure(f"no cgroup hierarchy is mounted; {MEND}")
    return Hierarchies(2, (first["cgroup2"][0][0],))


def here() -> Hierarchies:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def create(where: Hierarchies, name: str) -> None:
    for mount in where.mounts:
        if where.version == 2:
            _enable(mount)
        (mount / name).mkdir(exist_ok=True)
        for share in ("cpuset.cpus", "cpuset.mems"):
            if where.version == 1 and (mount / share).exists():  # a new one starts empty and takes no process
                (mount / name / share).write_text((mount / share).read_text())


def _enable(root: Path) -> None:
    there = (root / "cgroup.controllers").read_text().split()
    lacking = [name for name in NEEDED if name not in there]
    if lacking:
        raise NodeFailure(f"cgroup v2 at {root} lacks the controllers {', '.join(lacking)}; {MEND}")
    try:
        (root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in there))
    except OSError as error:
        raise NodeFailure(f"cgroup v2 at {root} does not pass its controllers on ({error}); {MEND}") from None


def remove(where: Hierarchies, name: str, deadline_s: float = 10) -> None:
    """Once its processes are dead; the kernel takes a moment to notice. Errors: NodeFailure."""
    end = time.monotonic() + deadline_s
    for mount in where.mounts:
        while not _removed(mount / name):
            if time.monotonic() > end:
                raise NodeFailure(f"{mount / name} is still in use after {deadline_s:.0f} s; run `down` again")
            time.sleep(0.05)


def _removed(folder: Path) -> bool:
    if not folder.exists():
        return True
    try:
        inner = [path for path in folder.iterdir() if path.is_dir()]
        if not all(_removed(path) for path in inner):
            return False
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

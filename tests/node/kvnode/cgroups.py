"""One cgroup a node, in each hierarchy, that holds all of its Pods: what `down` removes is ours alone."""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvnode.failure import NodeFailure

NEEDED = ("cpu", "memory", "pids")
PASSED_ON = (*NEEDED, "cpuset", "hugetlb")
"""A kubelet wants each of these for its Pods that the machine has; the others may well be held by somebody else."""
PLACE = Path("/sys/fs/cgroup")
"""Where kubelet and runc look, whatever else is mounted elsewhere: version 2 there decides for version 2."""
LEAF = "kvpool-others"
"""Below the root that a container sees: whoever ran in that root moves here, since only leaves may hold processes."""
MEND = (
    "mount cgroup v2 at /sys/fs/cgroup, or v1 with the controllers cpu, cpuacct, cpuset, memory and pids; "
    "in a container, run it with --privileged"
)


@dataclass(frozen=True)
class Hierarchies:
    """Version 1 has a mount a controller (and may have one of version 2 without any), version 2 one for all.

    Of version 1 beside a whole version 2 (some VPN programs mount net_cls) nothing is used.
    """

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
    if any(path == PLACE for path, _ in first["cgroup2"]):
        return Hierarchies(2, (PLACE,))
    if first["cgroup"]:
        controllers = {word for _, options in first["cgroup"] for word in options.split(",")}
        lacking = [name for name in (*NEEDED, "cpuacct", "cpuset") if name not in controllers]
        if lacking:
            raise NodeFailure(f"cgroup v1 lacks the controllers {', '.join(lacking)}; {MEND}")
        return Hierarchies(1, tuple(path for path, _ in (*first["cgroup"], *first["cgroup2"])))
    raise NodeFailure(f"no cgroup hierarchy is mounted at {PLACE}; {MEND}")


def here() -> Hierarchies:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def create(where: Hierarchies, name: str) -> None:
    for mount in where.mounts:
        if where.version == 2:
            _enable(mount)
        (mount / name).mkdir(exist_ok=True)
        if where.version == 2:  # its children hold on to the controllers, which systemd may take back from its own
            _enable(mount / name)
        for share in ("cpuset.cpus", "cpuset.mems"):
            if where.version == 1 and (mount / share).exists():  # a new one starts empty and takes no process
                (mount / name / share).write_text((mount / share).read_text())


def _enable(folder: Path) -> None:
    there = (folder / "cgroup.controllers").read_text().split()
    lacking = [name for name in NEEDED if name not in there]
    if lacking:
        raise NodeFailure(f"cgroup v2 at {folder} lacks the controllers {', '.join(lacking)}; {MEND}")
    try:
        _pass_on(folder, [name for name in there if name in PASSED_ON], _written)
    except OSError as error:
        raise NodeFailure(f"cgroup v2 at {folder} does not pass its controllers on ({error}); {MEND}") from None


def _pass_on(folder: Path, controllers: list[str], write: Callable[[Path, str], None]) -> None:
    """A container's root is no real one: while processes are in it, the kernel refuses to pass anything on (EBUSY)."""
    told = " ".join(f"+{name}" for name in controllers)
    try:
        write(folder / "cgroup.subtree_control", told)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        (folder / LEAF).mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                write(folder / LEAF / "cgroup.procs", pid)
        write(folder / "cgroup.subtree_control", told)


def _written(path: Path, text: str) -> None:
    path.write_text(text)


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

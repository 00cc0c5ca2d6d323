import errno
import os
from pathlib import Path

import pytest
from kvnode import cgroups
from kvnode.cgroups import Hierarchies, hierarchies
from kvnode.failure import NodeFailure

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"


def v1(*controllers: str) -> str:
    return OTHER + "".join(
        f"4{n} 23 0:3{n} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(controllers)
    )


def test_version_2_is_one_mount():
    assert hierarchies(OTHER + V2) == Hierarchies(2, (Path("/sys/fs/cgroup"),))


def test_version_1_is_every_mount_and_so_is_what_is_mixed():
    found = hierarchies(v1("cpu", "cpuacct", "cpuset", "memory", "pids") + V2.replace("cgroup rw", "cgroup/unified rw"))
    assert found.version == 1
    assert [path.name for path in found.mounts] == ["cpu", "cpuacct", "cpuset", "memory", "pids", "unified"]


def test_version_2_where_the_kubelet_looks_decides_whatever_a_vpn_has_mounted_beside_it():
    beside = "60 23 0:60 / /run/vpn/net_cls rw - cgroup none rw,net_cls\n"
    elsewhere = V2.replace("/sys/fs/cgroup", "/mnt/cgroup")
    assert hierarchies(beside + elsewhere + V2) == Hierarchies(2, (Path("/sys/fs/cgroup"),))


def test_controllers_mounted_together_count_each():
    assert hierarchies(v1("cpu,cpuacct", "cpuset", "memory", "pids")).version == 1


def test_what_is_missing_is_said_with_the_mend():
    with pytest.raises(NodeFailure, match=r"cgroup v1 lacks the controllers pids, cpuset; mount cgroup v2"):
        hierarchies(v1("cpu", "cpuacct", "memory"))
    with pytest.raises(NodeFailure, match=r"no cgroup hierarchy is mounted at /sys/fs/cgroup; .*--privileged"):
        hierarchies(OTHER)


def test_a_cgroup_of_version_2_is_made_below_a_root_that_passes_its_controllers_on(tmp_path):
    for folder in (tmp_path, tmp_path / "kvpool-x"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    cgroups.create(Hierarchies(2, (tmp_path,)), "kvpool-x")
    for folder in (tmp_path, tmp_path / "kvpool-x"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +pids"


class ContainersRoot:
    """What a kernel does when the root that a container sees is written to, with one process that has just ended."""

    ENDED = "9"

    def __init__(self, folder: Path, pids: list[str]) -> None:
        self.inside, self.moved, self.passed = folder / "cgroup.procs", list[str](), ""
        self.inside.write_text("\n".join(pids))

    def write(self, path: Path, text: str) -> None:
        if path.name == "cgroup.procs":
            left = self.inside.read_text().split()
            left.remove(text)
            self.inside.write_text("\n".join(left))
            if text == self.ENDED:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            assert path.parent.is_dir()
            self.moved.append(text)
        elif self.inside.read_text():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        else:
            self.passed = text


def test_in_a_container_the_processes_of_its_root_make_way(tmp_path):
    root = ContainersRoot(tmp_path, ["1", "9", "12"])
    cgroups._pass_on(tmp_path, ["cpu", "pids"], root.write)
    assert (root.moved, root.passed) == (["1", "12"], "+cpu +pids")


def test_a_root_that_may_not_be_written_to_is_refused_with_the_mend(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").mkdir()
    with pytest.raises(NodeFailure, match=r"does not pass its controllers on \(.*\); .*--privileged"):
        cgroups.create(Hierarchies(2, (tmp_path,)), "kvpool-x")


def test_a_root_of_version_2_without_the_controllers_is_refused(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    with pytest.raises(NodeFailure, match="lacks the controllers pids"):
        cgroups.create(Hierarchies(2, (tmp_path,)), "kvpool-x")


def test_a_cgroup_of_version_1_may_use_the_processors_that_its_parent_may(tmp_path):
    (tmp_path / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    cgroups.create(Hierarchies(1, (tmp_path,)), "kvpool-x")
    assert (tmp_path / "kvpool-x" / "cpuset.cpus").read_text() == "0-1\n"


def test_a_tree_of_cgroups_is_removed_and_one_in_use_is_named(tmp_path):
    (tmp_path / "kvpool-x" / "kubepods" / "burstable").mkdir(parents=True)
    here = Hierarchies(1, (tmp_path,))
    cgroups.remove(here, "kvpool-x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kvpool-x").mkdir()
    (tmp_path / "kvpool-x" / "busy").touch()
    with pytest.raises(NodeFailure, match=r"kvpool-x is still in use after 0 s; run `down` again"):
        cgroups.remove(here, "kvpool-x", deadline_s=0)

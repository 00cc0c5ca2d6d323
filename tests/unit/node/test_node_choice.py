"""Which cluster is used, and what is said when none can be."""

from pathlib import Path

import pytest
from kvnode import __main__ as command
from kvnode import build, cgroups, cluster, machine, own_images
from kvnode.cluster import Given, Kind, Own
from kvnode.failure import NodeFailure
from kvnode.node import STATES, Node


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KVPOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_a_kubeconfig_wins_then_kind_then_our_own_node(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "docker_runs", lambda: True)
    assert cluster.chosen("x") == Kind("x")
    monkeypatch.setattr(cluster, "docker_runs", lambda: False)
    assert cluster.chosen("x") == Own(Node("x"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert cluster.chosen("x") == Given(tmp_path / "config")


def test_a_kubeconfig_of_ours_is_known_again():
    assert cluster.named(STATES / "ring" / "kubeconfig") == Own(Node("ring"))
    assert cluster.named(Kind("ring").kubeconfig) == Kind("ring")


def test_only_our_own_node_is_entered_by_a_command():
    assert Own(Node("ring")).entry == ("nsenter", "--net=/run/netns/kvpool-ring")
    assert (Kind("ring").entry, Given(Path("x")).entry) == ((), ())


def test_somebodys_cluster_is_neither_stopped_nor_given_images(tmp_path):
    given = Given(tmp_path / "config")
    with pytest.raises(NodeFailure, match="which is no file; correct it, or unset it"):
        given.up()
    given.kubeconfig.touch()
    given.up()
    given.down()
    assert given.kubeconfig.exists()
    with pytest.raises(NodeFailure, match=r"make images REGISTRY=.* KVPOOL_REGISTRY="):
        given.load(tmp_path / "x.tar")


def test_a_registry_that_is_named_has_the_images_and_nothing_is_built_or_loaded(monkeypatch, tmp_path, capsys):
    assert own_images.named("engine-sim") == "localhost/kvpool/engine-sim:dev"
    monkeypatch.setenv("KVPOOL_REGISTRY", "registry.example/team/")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    (tmp_path / "config").touch()
    command.main(["images"])
    version = own_images.tag()
    assert version[0].isdigit()
    assert capsys.readouterr().out.split(": ", 1)[1].split(", ") == [
        f"registry.example/team/kvpool/engine-sim:{version}",
        f"registry.example/team/kvpool/operator:{version}",
        f"registry.example/team/kvpool/router:{version}\n",
    ]


def test_docker_counts_only_with_kind_beside_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not cluster.docker_runs()
    for name, code in (("docker", 1), ("kind", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    assert not cluster.docker_runs()
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 0\n")
    assert cluster.docker_runs()


def test_plain_tests_run_where_all_that_they_take_is_there_and_never_in_somebodys_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "docker_runs", lambda: True)
    assert not cluster.is_here(), "kind brings a cluster, and neither kubectl, helm nor images"
    monkeypatch.setattr(build, "is_here", lambda _root: True)
    monkeypatch.setattr(machine, "missing_packages", lambda _wanted: [])
    assert cluster.is_here()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert not cluster.is_here()


KIND = """#!/bin/sh
echo "$@" >> {told}
case "$1" in
  get) cat {listed} ;;
  create) echo "kvpool-x" > {listed}; touch {kubeconfig} ;;
  export) touch {kubeconfig} ;;
esac
"""


def test_kind_is_told_what_its_manual_says(monkeypatch, tmp_path):
    told, listed, kind = tmp_path / "told", tmp_path / "listed", Kind("x")
    listed.touch()
    program = tmp_path / "kind"
    program.write_text(KIND.format(told=told, listed=listed, kubeconfig=kind.kubeconfig))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    kind.up()
    kind.load(Path("/x.tar"))
    kind.kubeconfig.unlink()
    kind.up()
    kind.down()
    assert [line for line in told.read_text().splitlines() if not line.startswith("get")] == [
        f"create cluster --wait 120s --kubeconfig {kind.kubeconfig} --name kvpool-x",
        "load image-archive /x.tar --name kvpool-x",
        f"export kubeconfig --kubeconfig {kind.kubeconfig} --name kvpool-x",
        f"delete cluster --kubeconfig {kind.kubeconfig} --name kvpool-x",
    ]
    assert not kind.kubeconfig.exists()


def test_each_missing_thing_is_one_line_with_its_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(cgroups, "here", lambda: cgroups.hierarchies(""))
    root, packages, go, groups = machine.missing(tmp_path)
    assert root == "a node of our own needs root; run it with sudo, or set KUBECONFIG to a cluster"
    assert packages.startswith("Debian packages are missing: conntrack iproute2 iptables")
    assert "; apt-get install --no-install-recommends conntrack iproute2" in packages
    assert go == f"Go is not on PATH; {build.GO_MEND}"
    assert groups.startswith("no cgroup hierarchy is mounted")


def test_another_system_is_told_what_it_can_do_instead(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "darwin")
    assert machine.missing(tmp_path) == [
        "a node of our own needs Linux; set KUBECONFIG to a cluster, or start docker and install kind"
    ]


def test_a_name_that_no_folder_or_namespace_could_have_is_refused(capsys):
    for bad in ("A", "../x", "", "x" * 33):
        with pytest.raises(SystemExit):
            command.main(["up", f"--name={bad}"])
    assert "at most 32 of a-z, 0-9 and -" in capsys.readouterr().err


def test_a_cluster_that_is_not_up_is_said_to_be_so_with_the_mend(monkeypatch):
    monkeypatch.setattr(cluster, "docker_runs", lambda: False)
    for word in ("status", "kubeconfig"):
        with pytest.raises(NodeFailure, match="no cluster is up; start it: make cluster"):
            command.main([word, "--name", "never-started"])


def test_a_cluster_that_is_up_is_told_how_to_use(monkeypatch, tmp_path, capsys):
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    command.main(["up"])
    command.main(["kubeconfig"])
    command.main(["down"])
    up, use, path, down = capsys.readouterr().out.splitlines()
    assert up == f"the cluster is up; its kubeconfig: {kubeconfig}"
    assert use == f"  kubectl --kubeconfig {kubeconfig} get pods -A"
    assert (path, down) == (str(kubeconfig), "the cluster is down")

"""Which cluster is used, and what is said when none can be."""

import re
from pathlib import Path

import pytest
from kvnode import __main__ as command
from kvnode import build, cache, cgroups, cluster, machine, own_images
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
    with pytest.raises(NodeFailure, match=r"make images REGISTRY=.* unset KUBECONFIG"):
        given.take_own_images()


def test_a_registry_that_is_named_has_the_images_and_nothing_is_built_or_loaded(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KVPOOL_REGISTRY", "registry.example/team/")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    (tmp_path / "config").touch()
    command.main(["up"])
    version = own_images.tag()
    assert version[0].isdigit()
    pulled, *_ = capsys.readouterr().out.splitlines()
    assert pulled.split(": ", 1)[1].split(", ") == [
        f"registry.example/team/kvpool/engine-sim:{version}",
        f"registry.example/team/kvpool/operator:{version}",
        f"registry.example/team/kvpool/router:{version}",
    ]


def test_images_of_this_checkout_have_the_names_that_deploy_and_the_example_ask_for(monkeypatch):
    monkeypatch.delenv("KVPOOL_REGISTRY", raising=False)
    names = set(own_images.names())
    asked = {
        image
        for path in ("deploy/base/deployment.yaml", "examples/simulated.yaml")
        for image in re.findall(r"localhost/kvpool/[\w-]+:[\w.]+", (own_images.ROOT / path).read_text())
    }
    assert asked == names == {own_images.named(image) for image in ("operator", "router", "engine-sim")}


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


def test_kind_takes_images_that_docker_has_built_by_the_same_names(monkeypatch, tmp_path):
    for name in ("docker", "kind"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/told\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    Kind("x").take_own_images()
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.split()[1] for line in told] == ["info", "build", "build", "build", "load"]
    assert told[-1] == f"kind load docker-image {' '.join(own_images.names())} --name kvpool-x"
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(NodeFailure, match="not built, for the reason above"):
        Kind("x").take_own_images()


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
    command.main(["up", "--bare"])
    command.main(["kubeconfig"])
    command.main(["down"])
    up, use, path, down = capsys.readouterr().out.splitlines()
    assert up == f"the cluster is up; its kubeconfig: {kubeconfig}"
    assert use == f"  kubectl --kubeconfig {kubeconfig} get pods -A"
    assert (path, down) == (str(kubeconfig), "the cluster is down")


class OfOurs:
    """A cluster that is up and takes images."""

    kubeconfig, entry = Path("/nodes/x/kubeconfig"), ("nsenter", "--net=/run/netns/x")

    def __init__(self) -> None:
        self.words: list[str] = []

    def up(self) -> None:
        self.words.append("up")

    def is_up(self) -> bool:
        return True

    def take_own_images(self) -> None:
        self.words.append("images")


def test_a_cluster_comes_up_with_our_images_and_the_three_commands_to_type_next(monkeypatch, capsys):
    ours = OfOurs()
    monkeypatch.setattr(command, "chosen", lambda _name: ours)
    command.main(["up"])
    assert ours.words == ["up", "images"]
    *_, shell, install, apply = capsys.readouterr().out.splitlines()
    assert (shell, install) == ("  tests/node/shell", "  kubectl apply -k deploy/")
    assert apply == "  kubectl apply -f examples/simulated.yaml"


def test_somebodys_cluster_without_a_registry_is_refused_with_the_mend(monkeypatch, tmp_path):
    (tmp_path / "config").touch()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(NodeFailure, match="or unset KUBECONFIG"):
        command.main(["up"])


def test_a_shell_is_the_users_own_where_the_cluster_is_reached_with_the_kubectl_that_was_built(monkeypatch, capsys):
    ran: list[tuple[str, tuple[str, ...], dict[str, str]]] = []
    monkeypatch.setattr(command, "chosen", lambda _name: OfOurs())
    monkeypatch.setattr("os.execvpe", lambda *words: ran.append(words))
    monkeypatch.setenv("SHELL", "/bin/zsh")
    built = build.folder(cache.root()) / "bin"
    built.mkdir(parents=True)
    command.main(["shell"])
    ((program, argv, environment),) = ran
    assert (program, argv) == ("nsenter", ("nsenter", "--net=/run/netns/x", "/bin/zsh"))
    assert environment["KUBECONFIG"] == "/nodes/x/kubeconfig"
    assert environment["PATH"].startswith(f"{built}:")
    assert "exit leaves it" in capsys.readouterr().out

"""The command: what it reads, what it refuses, what it logs."""

import io
import json
import logging
import signal
import threading
from pathlib import Path

import pytest
from kvpool_operator import command
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.log_subject import speak_of
from kvpool_operator.runtime.logs import log_to
from kvpool_operator.runtime.options import StartError, read_options


@pytest.fixture(autouse=True)
def loggers():
    """As they were."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_without_being_told_anything_it_runs_the_whole_cluster_by_its_service_account():
    options = read_options([], {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert (options.namespaces, options.kubeconfig) == ((), None)
    assert (options.health_port, options.metrics_port) == (8080, 9090)
    assert options.settings.operator_namespace == "kvpool-system"


def test_the_environment_tells_images_and_namespaces_and_arguments_win():
    env = {
        "KVPOOL_ROUTER_IMAGE": "registry/router:1",
        "POD_NAMESPACE": "ops",
        "KVPOOL_METRICS_NAMESPACE": "prometheus",
        "KVPOOL_WATCH_NAMESPACES": "a, b,,a",
    }
    options = read_options([], env)
    settings = options.settings
    assert (settings.router_image, settings.operator_namespace) == ("registry/router:1", "ops")
    assert settings.metrics_namespace == "prometheus"
    assert options.namespaces == ("a", "b")
    assert read_options(["--namespace", "c"], env).namespaces == ("c",)


def test_a_kubeconfig_is_looked_for_where_kubectl_does(tmp_path):
    usual = tmp_path / ".kube" / "config"
    assert read_options([], {"HOME": str(tmp_path)}).kubeconfig is None
    usual.parent.mkdir()
    usual.touch()
    assert read_options([], {"HOME": str(tmp_path)}).kubeconfig == usual
    assert read_options([], {"HOME": str(tmp_path), "KUBECONFIG": "/x"}).kubeconfig == Path("/x")
    assert read_options(["--kubeconfig", "/y"], {"KUBECONFIG": "/x"}).kubeconfig == Path("/y")
    assert read_options([], {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "h"}).kubeconfig is None


@pytest.mark.parametrize("name", ["team-*", "Team", "-x", "x" * 64])
def test_a_pattern_is_no_namespace(name):
    with pytest.raises(StartError, match="is no name of a namespace"):
        read_options(["--namespace=" + name], {})


def test_what_cannot_start_says_so_in_one_line_and_exits_with_2(tmp_path, capsys):
    assert command.main(["--kubeconfig", str(tmp_path / "none")], {}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kvpool-operator: kubeconfig ")


def test_a_fault_of_ours_is_logged_and_exits_with_1(tmp_path, capsys, monkeypatch):
    async def broken(options):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(command, "run", broken)
    assert command.main([], {"KUBECONFIG": "x"}) == 1
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "error"
    assert "ZeroDivisionError: a fault" in line["error"]


def test_it_ends_well_when_it_is_told_to_before_and_after_it_runs(monkeypatch):
    async def done(options):
        return None

    monkeypatch.setattr(command, "run", done)
    assert command.main([], {}) == 0

    async def waiting(options):
        signal.raise_signal(signal.SIGTERM)
        await command.asyncio.sleep(60)

    monkeypatch.setattr(command, "run", waiting)
    assert command.main([], {}) == 0


def test_a_line_names_the_pool_it_is_about():
    stream = io.StringIO()
    log_to(stream)

    def speak():
        logging.getLogger("kvpool_operator.x").info("before")
        speak_of(Ref(seam.POOL, "default", "qwen"))
        logging.getLogger("kvpool_operator.x").info("about")
        kopf_says = {"kind": "InferencePool", "namespace": "n", "name": "p"}
        logging.getLogger("kopf.x").info("other", extra={"k8s_ref": kopf_says})

    speaking = threading.Thread(target=speak)
    speaking.start()
    speaking.join()
    for kind in ("InferencePool", "Pod"):
        said = {"kind": kind, "namespace": "n", "name": "p"}
        logging.getLogger("kopf.x").info("kopf", extra={"k8s_ref": said})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    named = [(line.get("namespace"), line.get("pool")) for line in lines]
    assert named == [(None, None), ("default", "qwen"), ("default", "qwen"), ("n", "p"), (None, None)]


def test_what_kopf_says_of_each_event_is_not_written():
    stream = io.StringIO()
    log_to(stream)
    logging.getLogger("kopf.objects").info("Handler 'pods' succeeded.")
    assert stream.getvalue() == ""

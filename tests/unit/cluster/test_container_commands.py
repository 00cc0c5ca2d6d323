"""From a container's spec to argv, environment and folders."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.cluster.local.command_line import (
    EventSockets,
    argv_of,
    expanded,
    placed,
    require_one_rank,
    variables_of,
    with_event_sockets,
)
from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.images import Program
from kvpool_operator.cluster.local.volumes import Mounts, discard, mounts_of, provided
from kvpool_operator.cluster.seam import Manifest, NotFound, Ref

POD: dict[str, Any] = {
    "metadata": {
        "name": "e0",
        "namespace": "ns",
        "uid": "u",
        "labels": {"app": "a"},
        "annotations": {"kvpool.dev/x": "y"},
    },
    "spec": {"containers": []},
}
CONFIG = {
    "kind": "ConfigMap",
    "data": {"k": "v", "path/x": "?"},
    "binaryData": {"b": base64.b64encode(b"\0\1").decode()},
}
SECRET = {"kind": "Secret", "data": {"token": base64.b64encode(b"s3cret").decode()}}


def read(ref: Ref) -> Manifest:
    try:
        return {"ConfigMap/conf": CONFIG, "Secret/secret": SECRET}[f"{ref.kind.kind}/{ref.name}"]
    except KeyError:
        raise NotFound(f"{ref.kind.plural} {ref.name} not found in {ref.namespace}") from None


def env(*entries: dict[str, Any], **container: object) -> dict[str, str]:
    return variables_of(POD, {"env": list(entries), **container}, "127.1.2.3", read)


def from_field(path: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
    ],
)
def test_references_expand_as_a_kubelet_expands_them(written: str, meant: str):
    assert expanded(written, {"A": "1", "B": "2"}) == meant


@given(st.text(alphabet="ab()-/"))
def test_text_without_dollars_is_left_alone(text: str):
    assert expanded(text, {"a": "x"}) == text


def test_a_variable_sees_those_before_it_only():
    assert env({"name": "A", "value": "$(B)"}, {"name": "B", "value": "1"}, {"name": "C", "value": "$(B)2"}) == {
        "A": "$(B)",
        "B": "1",
        "C": "12",
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "e0"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "a"),
        ("metadata.annotations['kvpool.dev/x']", "y"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "local"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "127.1.2.3"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_the_downward_api_is_served(path: str, value: str):
    assert env(from_field(path)) == {"X": value}


@pytest.mark.parametrize(
    "source", [{"fieldRef": {"fieldPath": "status.magic"}}, {"resourceFieldRef": {"resource": "x"}}]
)
def test_a_source_that_is_not_served_is_told(source: dict[str, Any]):
    with pytest.raises(StartFault, match="cannot give"):
        env({"name": "X", "valueFrom": source})


def key(kind: str, name: str, key: str, **further: object) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **further}}}


def test_keys_of_config_maps_and_secrets_are_read():
    assert env(key("configMap", "conf", "k")) == {"X": "v"}
    assert env(key("secret", "secret", "token")) == {"X": "s3cret"}
    assert env(envFrom=[{"prefix": "P_", "secretRef": {"name": "secret"}}, {}]) == {"P_token": "s3cret"}


@pytest.mark.parametrize(("name", "missing"), [("conf", "nope"), ("gone", "k")])
def test_a_missing_key_is_told_unless_it_is_optional(name: str, missing: str):
    with pytest.raises(StartFault, match=missing if name == "conf" else "gone"):
        env(key("configMap", name, missing))
    assert env(key("configMap", name, missing, optional=True)) == {}


def test_arguments_follow_the_stand_in_or_the_containers_own_command():
    program = Program(("python", "-m", "sim"))
    container: Any = {"args": ["$(MODEL)", "--port", "8000"]}
    assert argv_of(container, program, {"MODEL": "m"}) == ["python", "-m", "sim", "m", "--port", "8000"]
    assert argv_of(container | {"command": ["sh"]}, program, {}) == ["sh", "$(MODEL)", "--port", "8000"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/etc/kvpool/router/router.json", "/run/r/router.json"),
        ("/etc/kvpool/router", "/run/r"),
        ("/etc/kvpool/routers", "/etc/kvpool/routers"),
        ("/etc/kvpool/router/extra/x", "/run/x/x"),
        ("--config=/etc/kvpool/router/a", "--config=/run/r/a"),
        ("name=/etc/kvpool/router/a", "name=/etc/kvpool/router/a"),
        ("0.0.0.0", "127.1.2.3"),
        ("--model", "--model"),
    ],
)
def test_paths_and_addresses_inside_a_container_become_those_here(written: str, meant: str):
    container: Any = {
        "volumeMounts": [
            {"name": "r", "mountPath": "/etc/kvpool/router/"},
            {"name": "x", "mountPath": "/etc/kvpool/router/extra"},
        ]
    }
    mounts = mounts_of(container, {"r": Path("/run/r"), "x": Path("/run/x")})
    assert placed(written, mounts, "127.1.2.3") == meant


def test_a_sub_path_mounts_a_part_of_a_volume():
    container: Any = {"volumeMounts": [{"name": "r", "mountPath": "/chat.jinja", "subPath": "template"}]}
    assert mounts_of(container, {"r": Path("/v")}).rewritten("/chat.jinja") == "/v/template"


def test_a_mount_without_its_volume_is_told():
    container: Any = {"volumeMounts": [{"name": "nope", "mountPath": "/x"}]}
    with pytest.raises(StartFault, match="no volume 'nope'"):
        mounts_of(container, {})


def with_volumes(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {**POD, "spec": {"volumes": list(volumes)}}


def test_volumes_become_folders(tmp_path: Path):
    pod = with_volumes(
        {"name": "empty", "emptyDir": {}},
        {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "k", "path": "deep/k.txt"}]}},
        {"name": "all", "configMap": {"name": "conf", "items": []}},
        {"name": "secret", "secret": {"secretName": "secret"}},
        {"name": "maybe", "secret": {"secretName": "gone", "optional": True}},
        {"name": "host", "hostPath": {"path": str(tmp_path)}},
        {"name": "fresh", "hostPath": {"path": str(tmp_path / "fresh"), "type": "DirectoryOrCreate"}},
    )
    folders = provided(pod, tmp_path / "v", read)
    assert list(folders["empty"].iterdir()) == list(folders["maybe"].iterdir()) == []
    assert (folders["conf"] / "deep/k.txt").read_text() == "v"
    assert (folders["all"] / "b").read_bytes() == b"\0\1"
    assert (folders["secret"] / "token").read_text() == "s3cret"
    assert stat.S_IMODE((folders["secret"] / "token").stat().st_mode) == 0o600
    assert folders["host"] == tmp_path
    assert folders["fresh"].is_dir()
    discard(tmp_path / "v")
    discard(tmp_path / "v")
    assert not folders["secret"].exists()


@pytest.mark.parametrize(
    ("volume", "reason", "told"),
    [
        ({"configMap": {"name": "gone"}}, "ContainerCreating", 'MountVolume.SetUp failed for volume "v"'),
        ({"configMap": {"name": "conf", "items": [{"key": "z", "path": "z"}]}}, "ContainerCreating", "no key 'z'"),
        ({"hostPath": {"path": "/no/such/path"}}, "ContainerCreating", "no /no/such/path on this machine"),
        ({"image": {"reference": "x"}}, "CreateContainerConfigError", "only emptyDir, hostPath"),
    ],
)
def test_a_volume_that_cannot_be_made_is_told(tmp_path: Path, volume: dict[str, Any], reason: str, told: str):
    with pytest.raises(StartFault, match=told) as fault:
        provided(with_volumes({"name": "v", **volume}), tmp_path, read)
    assert fault.value.reason == reason


@pytest.mark.parametrize("inline", [True, False])
def test_real_engines_publish_through_sockets_in_the_file_system(inline: bool):
    config = json.dumps(
        {"publisher": "zmq", "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5657", "topic": "t"}
    )
    option = [f"--kv-events-config={config}"] if inline else ["--kv-events-config", config]
    moved = with_event_sockets(["vllm", *option, "--port", "8000"], EventSockets("ipc:///t/e", "ipc:///t/r"))
    told = json.loads(moved[1].partition("=")[2] if inline else moved[2])
    assert told == {"publisher": "zmq", "endpoint": "ipc:///t/e", "replay_endpoint": "ipc:///t/r", "topic": "t"}
    assert (moved[0], moved[-2:]) == ("vllm", ["--port", "8000"])


def test_several_ranks_over_sockets_are_refused():
    require_one_rank(POD)
    with pytest.raises(StartFault, match="dataParallelSize"):
        require_one_rank({"metadata": {"annotations": {"kvpool.dev/data-parallel-size": "2"}}})


def test_nothing_mounted_rewrites_nothing():
    assert Mounts(()).rewritten("/a") == "/a"

"""Pods as processes: real children, no clock of our own."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.seam import NotFound, Ref
from local_clusters import (
    about,
    condition,
    engine_state,
    eventually,
    is_running,
    local_cluster,
    pid_of,
    pod_now,
    ready_pod,
    tiny_pod,
)

HTTP_READY = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "run") as cluster:
        yield cluster


async def start(cluster: LocalCluster, manifest: dict[str, Any]) -> dict[str, Any]:
    made: Any = await cluster.apply(manifest, manager="m", force=True)
    return dict(made)


async def delete(cluster: LocalCluster, pod: dict[str, Any], grace_s: int | None = None) -> None:
    ref = Ref(seam.POD, "default", pod["metadata"]["name"])
    await cluster.delete(ref, uid=pod["metadata"]["uid"], grace_s=grace_s)


async def is_gone(cluster: LocalCluster, name: str) -> bool:
    try:
        await pod_now(cluster, name)
    except NotFound:
        return True
    return False


async def test_a_pod_runs_on_an_address_of_its_own_and_becomes_ready(cluster: LocalCluster):
    for name in ("a", "b"):
        await start(cluster, tiny_pod(name, startupProbe={"httpGet": {"path": "/health", "port": "http"}}))
    pods = [await ready_pod(cluster, name) for name in ("a", "b")]
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == 2
    for pod in pods:
        assert pod["status"]["phase"] == "Running"
        assert condition(pod, "Ready")["status"] == "True"
        assert engine_state(pod)["state"]["running"]["startedAt"].endswith("Z")
        assert engine_state(pod)["started"] is True
        told = await about(f"http://{pod['status']['podIP']}:8000")
        assert told["argv"] == ["--listen", f"{pod['status']['podIP']}:8000"]
        assert told["env"]["HOSTNAME"] == pod["metadata"]["name"]


async def test_a_killed_container_is_started_again_at_once_and_counted(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", readinessProbe=HTTP_READY))
    first = await ready_pod(cluster, "a")
    os.kill(pid_of(first), signal.SIGKILL)

    async def restarted() -> dict[str, Any] | None:
        pod = await pod_now(cluster, "a")
        back = engine_state(pod)["restartCount"] == 1 and condition(pod, "ContainersReady")["status"] == "True"
        return pod if back else None

    again = await eventually(restarted)
    last = engine_state(again)["lastState"]["terminated"]
    assert (last["exitCode"], last["signal"], last["reason"]) == (137, 9, "Error")
    assert pid_of(again) != pid_of(first)
    assert again["status"]["podIP"] == first["status"]["podIP"]


async def test_a_crash_loop_backs_off_and_shows_the_last_words(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", "--say", "CUDA out of memory", "--exit", "3"))

    async def backs_off() -> dict[str, Any] | None:
        pod = await pod_now(cluster, "a")
        waits = engine_state(pod)["state"].get("waiting", {})
        return pod if waits.get("reason") == "CrashLoopBackOff" and "back-off 1s" in waits["message"] else None

    state = engine_state(await eventually(backs_off))
    assert state["lastState"]["terminated"]["exitCode"] == 3
    assert state["lastState"]["terminated"]["message"] == "CUDA out of memory"
    assert state["restartCount"] == 2


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("Never", "0", "Succeeded"), ("Never", "4", "Failed"), ("OnFailure", "0", "Succeeded")],
)
async def test_the_restart_policy_decides_what_an_end_means(cluster: LocalCluster, policy: str, code: str, phase: str):
    await start(cluster, tiny_pod("a", "--exit", code, spec={"restartPolicy": policy}))

    async def over() -> dict[str, Any] | None:
        pod = await pod_now(cluster, "a")
        return pod if pod.get("status", {}).get("phase") == phase else None

    assert engine_state(await eventually(over))["restartCount"] == 0


async def test_readiness_follows_the_probe_both_ways(cluster: LocalCluster, tmp_path: Path):
    flag = tmp_path / "ready"
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    args = ("--listen", "$(POD_IP):8000", "--ready-file", str(flag))
    await start(cluster, tiny_pod("a", *args, readinessProbe=probe))

    async def started() -> dict[str, Any] | None:
        pod = await pod_now(cluster, "a")
        return pod if engine_state(pod).get("started") else None

    unready = await eventually(started)
    assert condition(unready, "ContainersReady")["message"] == "containers with unready status: [engine]"
    flag.touch()
    await ready_pod(cluster, "a")
    flag.unlink()

    async def unready_again() -> bool:
        return condition(await pod_now(cluster, "a"), "ContainersReady")["status"] == "False"

    await eventually(unready_again)


async def test_a_container_that_fails_its_liveness_probe_is_restarted(cluster: LocalCluster, tmp_path: Path):
    flag = tmp_path / "alive"
    flag.touch()
    probe = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    args = ("--listen", "$(POD_IP):8000", "--ready-file", str(flag))
    await start(cluster, tiny_pod("a", *args, startupProbe=HTTP_READY, livenessProbe=probe))
    await ready_pod(cluster, "a")
    flag.unlink()

    async def restarted() -> bool:
        return engine_state(await pod_now(cluster, "a"))["restartCount"] >= 1

    await eventually(restarted)


async def test_more_of_an_ended_containers_log_can_be_had_than_its_pod_tells(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", "--say", f"the cause\n{'x' * 5000}\nbye", "--exit", "1"))
    ref = Ref(seam.POD, "default", "a")

    async def ended() -> str:
        return await cluster.ended_log(ref, container="engine", lines=10)

    assert (await eventually(ended)).splitlines() == ["the cause", "x" * 5000, "bye"]
    assert await cluster.ended_log(ref, container="engine", lines=1) == "bye"
    assert await cluster.ended_log(ref, container="nobody", lines=1) == ""

    async def told() -> str:
        return str(engine_state(await pod_now(cluster, "a"))["lastState"].get("terminated", {}).get("message", ""))

    assert (await eventually(told)).endswith("xxx\nbye")


async def test_a_container_that_never_starts_up_is_restarted(cluster: LocalCluster):
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    await start(cluster, tiny_pod("a", "--say", "idle", startupProbe=probe))

    async def restarted() -> dict[str, Any] | None:
        pod = await pod_now(cluster, "a")
        return pod if engine_state(pod)["restartCount"] >= 1 else None

    assert engine_state(await eventually(restarted))["lastState"]["terminated"]["signal"] == signal.SIGTERM


async def test_a_readiness_gate_holds_the_pod_back_until_its_condition_is_true(cluster: LocalCluster):
    gate = "kvpool.dev/routable"
    pod = await start(cluster, tiny_pod("a", spec={"readinessGates": [{"conditionType": gate}]}))
    waiting = await ready_pod(cluster, "a")
    assert condition(waiting, "Ready")["reason"] == "ReadinessGatesNotReady"
    for status in ("False", "True"):
        told = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "default", "uid": pod["metadata"]["uid"]},
            "status": {"conditions": [{"type": gate, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }
        await cluster.apply(told, manager="operator", force=False, subresource="status")

        async def settled(status: str = status) -> bool:
            ready = condition(await pod_now(cluster, "a"), "Ready")
            return ready["status"] == status and ('"False"' not in ready.get("message", "") or status == "False")

        await eventually(settled)


async def test_a_deleted_pod_ends_with_all_its_processes_before_it_goes(cluster: LocalCluster, tmp_path: Path):
    brood = tmp_path / "brood"
    await start(cluster, tiny_pod("a", "--listen", "$(POD_IP):8000", "--brood", str(brood)))
    pod = await ready_pod(cluster, "a")

    async def child() -> int | None:
        return int(brood.read_text()) if brood.exists() else None

    grandchild = await eventually(child)
    await delete(cluster, pod)
    assert (await pod_now(cluster, "a"))["metadata"]["deletionGracePeriodSeconds"] == 5
    await eventually(lambda: is_gone(cluster, "a"))
    assert not is_running(pid_of(pod))

    async def ended() -> bool:
        return not is_running(grandchild)

    await eventually(ended)


async def test_a_deaf_process_is_killed_once_its_grace_is_over(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", "--listen", "$(POD_IP):8000", "--deaf", readinessProbe=HTTP_READY))
    pod = await ready_pod(cluster, "a")
    await delete(cluster, pod, grace_s=1)
    await eventually(lambda: is_gone(cluster, "a"))
    assert not is_running(pid_of(pod))


async def test_a_pod_serves_on_while_its_pre_stop_sleep_lasts(cluster: LocalCluster):
    lifecycle = {"preStop": {"sleep": {"seconds": 1}}}
    await start(cluster, tiny_pod("a", lifecycle=lifecycle, readinessProbe=HTTP_READY))
    pod = await ready_pod(cluster, "a")
    await delete(cluster, pod)
    assert (await about(f"http://{pod['status']['podIP']}:8000"))["argv"]
    await eventually(lambda: is_gone(cluster, "a"))


async def test_a_pod_deleted_without_grace_is_gone_at_once_and_its_process_soon(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", lifecycle={"preStop": {"sleep": {"seconds": 60}}}))
    pod = await ready_pod(cluster, "a")
    await delete(cluster, pod, grace_s=0)
    assert await is_gone(cluster, "a")

    async def ended() -> bool:
        return not is_running(pid_of(pod))

    await eventually(ended)


async def test_a_pod_of_the_same_name_may_follow_one_that_went(cluster: LocalCluster):
    uids = set()
    for _ in range(2):
        await start(cluster, tiny_pod("a", readinessProbe=HTTP_READY))
        pod = await ready_pod(cluster, "a")
        uids.add(pod["metadata"]["uid"])
        await delete(cluster, pod)
        await eventually(lambda: is_gone(cluster, "a"))
    assert len(uids) == 2


async def waiting(cluster: LocalCluster, name: str) -> tuple[str, str]:
    async def waits() -> dict[str, Any] | None:
        found = engine_state(await pod_now(cluster, name))["state"].get("waiting", {})
        return found if found.get("message") else None

    found = await eventually(waits)
    return found["reason"], found["message"]


async def test_an_image_that_nothing_stands_in_for_is_told(cluster: LocalCluster):
    pod = tiny_pod("a")
    pod["spec"]["containers"][0] |= {"name": "side", "image": "registry.invalid/envoy:1"}
    await start(cluster, pod)
    reason, message = await waiting(cluster, "a")
    assert reason == "ErrImageNeverPull"
    assert "registry.invalid/envoy:1" in message


@pytest.mark.parametrize(
    ("spec", "container", "told"),
    [
        ({"initContainers": [{"name": "i", "image": "tiny"}]}, {}, "initContainers"),
        ({}, {"lifecycle": {"postStart": {"exec": {}}}}, "postStart"),
        ({}, {"livenessProbe": {"exec": {"command": ["true"]}}}, "livenessProbe"),
        ({}, {"livenessProbe": {"httpGet": {"path": "/", "port": "nope"}}}, "'nope'"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, {}, "spec.model.source.path"),
    ],
)
async def test_what_does_not_run_here_is_told(
    cluster: LocalCluster, spec: dict[str, Any], container: dict[str, Any], told: str
):
    await start(cluster, tiny_pod("a", spec=spec, **container))
    reason, message = await waiting(cluster, "a")
    assert (reason, told in message) == ("CreateContainerConfigError", True)


async def test_a_missing_program_is_told(cluster: LocalCluster):
    await start(cluster, tiny_pod("a", command=["no-such-program"]))
    assert await waiting(cluster, "a") == (
        "RunContainerError",
        "'no-such-program' was not found or cannot be executed",
    )


async def test_a_container_waits_for_its_config_and_then_reads_it(cluster: LocalCluster, tmp_path: Path):
    volume = {"name": "conf", "configMap": {"name": "late"}}
    mount = {"name": "conf", "mountPath": "/etc/app"}
    args = ("--listen", "$(POD_IP):8000", "--ready-file", "/etc/app/flag")
    await start(
        cluster, tiny_pod("a", *args, spec={"volumes": [volume]}, volumeMounts=[mount], readinessProbe=HTTP_READY)
    )
    reason, message = await waiting(cluster, "a")
    assert reason == "ContainerCreating"
    assert 'configmaps "late" not found' in message
    late = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "late", "namespace": "default"},
        "data": {"flag": "1"},
    }
    await cluster.apply(late, manager="m", force=True)
    pod = await ready_pod(cluster, "a")
    told = await about(f"http://{pod['status']['podIP']}:8000")
    flag = Path(told["argv"][-1])
    assert flag.read_text() == "1"  # noqa: ASYNC240
    await delete(cluster, pod)
    await eventually(lambda: is_gone(cluster, "a"))
    assert not flag.exists()  # noqa: ASYNC240


async def test_output_goes_to_one_log_a_pod(cluster: LocalCluster, tmp_path: Path):
    pod = tiny_pod("a", "--say", "hello", "--listen", "$(POD_IP):8000", readinessProbe=HTTP_READY)
    side = {"name": "side", "image": "tiny", "args": ["--say", "from the side"]}
    pod["spec"]["containers"].append(side)
    await start(cluster, pod)
    await ready_pod(cluster, "a")

    async def logged() -> bool:
        side_log = tmp_path / "run/logs/a.side.log"
        return side_log.exists() and side_log.read_text() == "from the side\n"

    await eventually(logged)
    assert (tmp_path / "run/logs/a.log").read_text() == "hello\n"

"""Back-off, probes and statuses: the rules, without Pods around them."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.cluster.local import leftovers
from kvpool_operator.cluster.local.container import BackOff, Container, Launched
from kvpool_operator.cluster.local.container_status import ContainerStatus, pod_status, running, terminated, waiting
from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.images import ImageTable, Program
from kvpool_operator.cluster.local.launch import _event_sockets
from kvpool_operator.cluster.local.probes import Check, Probe, Probes, first_success, probes_of, verdicts
from kvpool_operator.cluster.local.process import Command, Exit, Process
from kvpool_operator.cluster.seam import NotFound
from local_clusters import TINY, eventually, is_running

NOW = "2026-01-01T12:00:00Z"
LATER = "2026-01-01T13:00:00Z"


def test_the_first_restart_is_at_once_and_the_rest_ever_slower():
    back_off = BackOff()
    assert [back_off.after(1) for _ in range(8)] == [0, 0.2, 1, 5, 10, 20, 20, 20]


def test_a_minute_of_life_forgives():
    back_off = BackOff()
    assert [back_off.after(lived) for lived in (1, 1, 61, 1)] == [0, 0.2, 0, 0.2]


def scripted(*results: bool) -> tuple[Check, list[bool]]:
    """A check that gives these results, then ends the test's patience."""
    left = list(results)

    async def check() -> str | None:
        await asyncio.sleep(0)
        if not left:
            raise StopAsyncIteration
        return None if left.pop(0) else "unwell"

    return check, left


async def told(probe: Probe, *, is_well: bool) -> list[bool]:
    found = []
    try:
        async for verdict, _ in verdicts(probe, is_well=is_well):
            found.append(verdict)
    except RuntimeError as ended:
        assert isinstance(ended.__cause__, StopAsyncIteration)  # noqa: PT017
    return found


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_a_verdict_turns_after_enough_results_against_it(
    results: list[bool], failures: int, successes: int, is_well: bool
):
    check, _ = scripted(*results)
    found = asyncio.run(told(Probe(check, period_s=0, failures=failures, successes=successes), is_well=is_well))
    assert found == list(_turns(results, failures, successes, is_well))


def _turns(results: list[bool], failures: int, successes: int, is_well: bool) -> Iterator[bool]:
    """The same by looking back: a verdict turns when the last N results since its last turn are all against it."""
    since: list[bool] = []
    for result in results:
        since.append(result)
        needed = failures if is_well else successes
        if len(since) >= needed and all(each != is_well for each in since[-needed:]):
            is_well, since = not is_well, []
            yield is_well


async def test_a_start_is_waited_for_and_given_up_after_its_failures():
    check, left = scripted(False, False, True)
    assert await first_success(Probe(check, period_s=0.001, failures=10_000)) is None
    assert left == []
    check, left = scripted(False, True)
    assert await first_success(Probe(check, period_s=0, failures=3)) == "unwell"
    assert left == [True]


async def probe_results(spec: dict[str, Any]) -> str | None:
    async with aiohttp.ClientSession() as http:
        probe = probes_of({"startupProbe": spec}, "127.0.0.1", http).startup
        assert probe is not None
        return await probe.check()


async def test_a_socket_probe_connects_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await probe_results({"tcpSocket": {"port": port}}) is None
    fault = await probe_results({"tcpSocket": {"port": port}})
    assert fault is not None
    assert f"dial tcp 127.0.0.1:{port}" in fault


async def test_an_http_probe_that_gets_no_answer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        spec = {
            "httpGet": {"port": port, "path": "/", "httpHeaders": [{"name": "X", "value": "y"}]},
            "timeoutSeconds": 0,
        }
        assert await probe_results(spec) == f"Get 'http://127.0.0.1:{port}/': TimeoutError"


def one(state: dict[str, Any], **known: Any) -> ContainerStatus:  # noqa: ANN401
    return ContainerStatus("engine", "image", state=state, **known)


ENDED = terminated(Exit(137, 9), since=NOW, now=NOW, last_words="bye")


@pytest.mark.parametrize(
    ("containers", "phase"),
    [
        ([one(waiting("ContainerCreating"))], "Pending"),
        ([one(running(NOW)), one(waiting("ContainerCreating"))], "Pending"),
        ([one(running(NOW))], "Running"),
        ([one(waiting("CrashLoopBackOff"), last_state=ENDED)], "Running"),
        ([one(ENDED)], "Running"),
        ([one(ENDED, is_over=True)], "Failed"),
        ([one(ENDED, is_over=True), one(running(NOW))], "Running"),
        ([one(terminated(Exit(0, None), since=NOW, now=NOW, last_words=""), is_over=True)], "Succeeded"),
    ],
)
def test_the_phase_sums_the_containers_up(containers: list[ContainerStatus], phase: str):
    assert pod_status({}, containers, address="127.1.1.1", now=NOW)["phase"] == phase


def test_times_of_conditions_stay_until_their_status_turns():
    pod: Any = {"spec": {}}
    pod["status"] = pod_status(pod, [one(running(NOW))], address="a", now=NOW)
    later: Any = pod_status(pod, [one(running(NOW), ready=True)], address="a", now=LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in later["conditions"]}
    assert times == {"PodScheduled": NOW, "Initialized": NOW, "ContainersReady": LATER, "Ready": LATER}
    assert later["startTime"] == NOW


def test_a_failed_end_carries_the_last_words_and_a_good_one_none():
    assert ENDED["terminated"]["message"] == "bye"
    assert "message" not in terminated(Exit(0, None), since=NOW, now=NOW, last_words="bye")["terminated"]


@pytest.mark.parametrize(
    ("conditions", "fault"),
    [
        ([], "does not exist"),
        ([{"type": "gate", "status": "False"}], 'is not "True", but False'),
        ([{"type": "gate", "status": "True"}], ""),
    ],
)
def test_a_gate_must_be_true(conditions: list[dict[str, str]], fault: str):
    pod: Any = {"spec": {"readinessGates": [{"conditionType": "gate"}]}, "status": {"conditions": conditions}}
    status: Any = pod_status(pod, [one(running(NOW), ready=True)], address="a", now=NOW)
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert fault in ready.get("message", "")
    assert ready["status"] == ("False" if fault else "True")


def command(folder: Path, *args: str) -> Command:
    return Command([*TINY, *args], dict(os.environ), folder, folder / "log")


async def test_a_container_halted_while_it_starts_does_not_stay(tmp_path: Path):
    begun, go = asyncio.Event(), asyncio.Event()
    started: list[Process] = []

    async def launch() -> Launched:
        begun.set()
        await go.wait()
        started.append(await Process.start(command(tmp_path, "--deaf")))
        return Launched(started[0], Probes())

    container = _container(launch)
    container.kill()
    await container.run()
    assert not begun.is_set()
    container = _container(launch)
    life = asyncio.ensure_future(container.run())
    await begun.wait()
    await container.end(0)
    go.set()
    await life
    assert not is_running(started[0].pid)


async def test_a_container_that_never_started_ends_without_a_word(tmp_path: Path):
    async def launch() -> Launched:
        raise StartFault("ErrImageNeverPull", "nothing")

    container = _container(launch)
    life = asyncio.ensure_future(container.run())

    async def waits() -> bool:
        return "ErrImageNeverPull" in str(container.status.state)

    await eventually(waits)
    container.halt()
    await life
    assert not container.status.is_over


async def test_readiness_and_liveness_are_followed_side_by_side(tmp_path: Path):
    async def well() -> str | None:
        return None

    async def launch() -> Launched:
        process = await Process.start(command(tmp_path))
        return Launched(process, Probes(readiness=Probe(well, period_s=0.01), liveness=Probe(well, period_s=0.01)))

    container = _container(launch)
    life = asyncio.ensure_future(container.run())

    async def is_ready() -> bool:
        return container.status.ready

    await eventually(is_ready)
    container.kill()
    await life
    assert container.status.state["terminated"]["signal"] == 9
    assert not container.status.ready


def _container(launch: Any) -> Container:  # noqa: ANN401
    return Container(
        ContainerStatus("engine", "tiny"),
        launch,
        restart_policy="Always",
        grace_s=0,
        changed=lambda: None,
        now=lambda: NOW,
    )


def test_a_process_that_is_gone_already_is_no_matter(monkeypatch: pytest.MonkeyPatch):
    seen = iter([[2**22 + 1], []])
    monkeypatch.setattr(leftovers, "marked", lambda mark: next(seen))
    assert leftovers.sweep("a-mark") == 1


def test_an_engine_deleted_before_its_sockets_are_told_does_not_start(tmp_path: Path):
    class Gone:
        def apply(self, *_: object, **__: object) -> None:
            raise NotFound("pods")

    class Folders:
        sockets = tmp_path

    class Node:
        store, run_dir, images = Gone(), Folders(), ImageTable(by_image={"x": Program(("y",))})

    with pytest.raises(StartFault, match="pods"):
        _event_sockets(Node(), {"metadata": {"name": "a", "uid": "u"}})

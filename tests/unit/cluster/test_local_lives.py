"""A local cluster's beginning and end: what a user can get wrong, and that nothing outlives it."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from kvpool_operator.cluster.local import (
    ExecutableNotFound,
    ImageTable,
    LocalCluster,
    PortInUse,
    Program,
    RunDirUnusable,
    UnknownImage,
    Unsupported,
    addresses,
)
from kvpool_operator.cluster.local.leftovers import MARK, marked, sweep
from kvpool_operator.cluster.local.process import Command, Process
from kvpool_operator.cluster.local.run_dir import RunDir
from kvpool_operator.cluster.seam import Unavailable
from local_clusters import (
    IMAGES,
    TINY,
    engine_state,
    eventually,
    free_pair,
    is_running,
    local_cluster,
    pid_of,
    pod_now,
    ready_pod,
    tiny_pod,
)

HEALTH = {"httpGet": {"path": "/health", "port": "http"}}
SUPPORT = Path(__file__).resolve().parents[2] / "support"


async def ended(pid: int) -> None:
    async def is_ended() -> bool:
        return not is_running(pid)

    await eventually(is_ended)


async def test_leaving_ends_every_process_deaf_or_not_and_keeps_the_logs_only(tmp_path: Path):
    async with local_cluster(tmp_path / "run", stop_grace_s=0.3) as cluster:
        for name, *flags in (("a",), ("b", "--deaf")):
            pod = tiny_pod(name, "--listen", "$(POD_IP):8000", *flags, startupProbe=HEALTH)
            pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 60}}}
            await cluster.apply(pod, manager="m", force=True)
        pids = [pid_of(await ready_pod(cluster, name)) for name in ("a", "b")]
    assert not any(map(is_running, pids))
    assert list(marked(str(tmp_path / "run"))) == []
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == ["lock", "logs"]


async def test_a_cluster_left_by_an_error_leaves_nothing_either(tmp_path: Path):
    with pytest.raises(KeyError):  # noqa: PT012
        async with local_cluster(tmp_path / "run") as cluster:
            await cluster.apply(tiny_pod("a", startupProbe=HEALTH), manager="m", force=True)
            pid = pid_of(await ready_pod(cluster, "a"))
            raise KeyError
    assert not is_running(pid)


PARENT = """
    import asyncio, os, sys
    from pathlib import Path
    import local_clusters as clusters

    async def main():
        async with clusters.local_cluster(Path(sys.argv[1])) as cluster:
            pod = clusters.tiny_pod("a", "--listen", "$(POD_IP):8000", "--deaf", "--brood", sys.argv[2])
            await cluster.apply(pod, manager="m", force=True)
            await clusters.ready_pod(cluster, "a")
            while not Path(sys.argv[2]).exists():
                await asyncio.sleep(0.01)
            print(clusters.pid_of(await clusters.pod_now(cluster, "a")), flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


def run_parent(run_dir: Path, brood: Path) -> tuple[subprocess.Popen[str], int, int]:
    """A process that runs a cluster with one deaf container, which has a deaf child: (it, container, child)."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(run_dir), str(brood)],
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    container = int(parent.stdout.readline())
    return parent, container, int(brood.read_text())


async def test_a_parent_killed_hard_leaves_no_process(tmp_path: Path):
    parent, container, child = run_parent(tmp_path / "run", tmp_path / "brood")
    with parent:
        assert is_running(container)
        assert is_running(child)
        parent.kill()
        for pid in (container, child):
            await ended(pid)

    async def all_ended() -> bool:
        return not list(marked(str(tmp_path / "run")))

    await eventually(all_ended)


async def test_an_interrupted_parent_leaves_no_process(tmp_path: Path):
    parent, container, child = run_parent(tmp_path / "run", tmp_path / "brood")
    with parent:
        parent.send_signal(signal.SIGINT)
        await asyncio.to_thread(parent.wait, timeout=20)
    assert not is_running(container)
    assert not is_running(child)


async def test_the_next_run_sweeps_what_an_earlier_one_left(tmp_path: Path):
    env = {**os.environ, MARK: str(tmp_path / "run")}
    left = subprocess.Popen([*TINY, "--deaf"], env=env)  # noqa: ASYNC220
    with left:
        async with local_cluster(tmp_path / "run"):
            await asyncio.to_thread(left.wait)
    assert left.returncode == -signal.SIGKILL


def test_a_sweep_takes_the_marked_and_no_other():
    mine = subprocess.Popen([*TINY], env={**os.environ, MARK: "a-mark"})
    other = subprocess.Popen([*TINY], env={**os.environ, MARK: "a-mark-of-another"})
    with mine, other:
        assert sweep("a-mark") == 1
        assert mine.wait() == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
    assert sweep("a-mark") == 0


async def test_a_door_that_is_taken_is_told_before_anything_starts(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} on 127\.0\.0\.1 \(the pool's door\) is in use"):
            async with local_cluster(tmp_path / "run", port=port):
                pass
    assert not (tmp_path / "run").exists()


async def test_a_port_that_another_program_holds_everywhere_is_told_by_the_pod(tmp_path: Path):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        async with local_cluster(tmp_path / "run") as cluster:
            pod = tiny_pod("a", ports=[{"name": "http", "containerPort": port}])
            await cluster.apply(pod, manager="m", force=True)

            async def told() -> str | None:
                state = engine_state(await pod_now(cluster, "a"))["state"]
                return state.get("waiting", {}).get("message")

            assert f"port {port}" in await eventually(told)


async def test_a_program_that_is_not_installed_is_told(tmp_path: Path):
    images = ImageTable(by_container={"engine": Program(("no-such-vllm",))})
    with pytest.raises(ExecutableNotFound, match="'no-such-vllm', which stands in for 'engine'"):
        async with local_cluster(tmp_path / "run", images=images):
            pass


async def test_a_run_dir_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirUnusable, match="cannot be used: Not a directory"):
        async with local_cluster(tmp_path / "file" / "run"):
            pass


async def test_a_run_dir_in_use_is_told_with_its_holder(tmp_path: Path):
    async with local_cluster(tmp_path / "run"):
        with pytest.raises(RunDirUnusable, match=rf"held by process {os.getpid()}"):
            async with local_cluster(tmp_path / "run"):
                pass
    async with local_cluster(tmp_path / "run"):
        pass


async def test_a_machine_without_linux_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(Unsupported, match="needs Linux"):
        async with local_cluster(tmp_path / "run"):
            pass


def test_an_image_is_known_by_itself_or_by_its_container():
    tiny, engine = Program(("a",)), Program(("b",))
    table = ImageTable(by_image={"tiny": tiny}, by_container={"engine": engine})
    assert table.program("tiny", "engine") is tiny
    assert table.program("vllm/vllm-openai:v1", "engine") is engine
    with pytest.raises(UnknownImage, match=r"'x'.*'y'.*known: engine, tiny"):
        table.program("y", "x")
    with pytest.raises(UnknownImage, match="known: nothing"):
        ImageTable().program("y", "x")


def test_logs_stay_until_the_next_run(tmp_path: Path):
    run_dir = RunDir(tmp_path / "run")
    run_dir.open()
    log = run_dir.logs / "a.log"
    log.write_text("last words")
    run_dir.close()
    assert log.read_text() == "last words"
    run_dir.open()
    run_dir.close()
    assert not log.exists()


def test_sockets_get_a_short_folder_that_goes_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_dir = RunDir(tmp_path / "run")
    run_dir.open()
    sockets = run_dir.sockets
    assert run_dir.sockets == sockets
    assert sockets.is_dir()
    run_dir.close()
    assert not sockets.exists()
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(RunDirUnusable, match="TMPDIR"):
        _ = RunDir(tmp_path / "other").sockets


def test_two_blocks_of_addresses_never_meet():
    first, second = (addresses.LoopbackBlock(random.Random(7)) for _ in range(2))
    try:
        assert first.take().split(".")[1] != second.take().split(".")[1]
    finally:
        first.close()
        second.close()


def test_an_address_is_given_once_until_it_is_released():
    block = addresses.LoopbackBlock(random.Random(7))
    try:
        given = [block.take() for _ in range(1000)]
        assert len(set(given)) == 1000
        rest = [block.take() for _ in range(256 * 254 - 1000)]
        block.release(given[3])
        assert block.take() == given[3]
        assert not {*rest} & {*given}
    finally:
        block.close()


class One(random.Random):
    """Draws the one block that it is given."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self._block = block

    def sample(self, *_: object, **__: object) -> list[int]:
        return [self._block]


def test_no_free_block_is_told():
    taken = addresses.LoopbackBlock(random.Random(7))
    try:
        with pytest.raises(Unsupported, match="stop other local pools"):
            addresses.LoopbackBlock(One(int(taken.take().split(".")[1])))
    finally:
        taken.close()


def test_an_address_that_this_machine_has_not_is_an_error():
    with pytest.raises(OSError, match="assign"):
        addresses.is_free("192.0.2.1", 80)


async def test_last_words_are_those_of_this_start_and_no_more_than_a_kubelet_keeps(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("of an earlier start\n")
    command = Command([*TINY, "--say", "x" * 5000, "--exit", "1"], dict(os.environ), tmp_path, log)
    process = await Process.start(command)
    assert (await process.wait()).code == 1
    assert len(process.last_words()) == 2047
    log.unlink()
    assert process.last_words() == ""
    process.kill()


async def test_real_engines_are_told_their_sockets_and_routers_too(tmp_path: Path):
    images = ImageTable(by_container={"engine": Program(TINY, events_over_ipc=True)})
    config = '{"endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5657"}'
    async with local_cluster(tmp_path / "run", images=images) as cluster:
        pod = tiny_pod("a", "--listen", "$(POD_IP):8000", "--kv-events-config", config, startupProbe=HEALTH)
        pod["spec"]["containers"][0]["image"] = "vllm/vllm-openai:v0.32.0"
        await cluster.apply(pod, manager="m", force=True)
        running = await ready_pod(cluster, "a")
    told = running["metadata"]["annotations"]["kvpool.dev/kv-events-endpoints"]
    assert told.startswith('[{"events": "ipc:///')
    assert len(told) < 200


class Broken(ImageTable):
    """Fails in a way that nobody foresaw."""

    def program(self, image: str, container: str) -> Program:
        raise RuntimeError("a fault of ours")


async def test_a_fault_of_the_cluster_itself_is_never_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(ExceptionGroup, match="unhandled errors"):  # noqa: PT012
        async with local_cluster(tmp_path / "run", images=Broken()) as cluster:
            await cluster.apply(tiny_pod("a"), manager="m", force=True)

            async def stopped() -> bool:
                try:
                    await pod_now(cluster, "a")
                except Unavailable as told:
                    return "a fault of ours" in repr(told) or "has stopped" in str(told)
                return False

            await eventually(stopped)
    assert "the local cluster has stopped" in caplog.text
    assert list(marked(str(tmp_path / "run"))) == []


async def test_a_container_that_cannot_be_prepared_says_why(tmp_path: Path):
    async with local_cluster(tmp_path / "run") as cluster:
        (tmp_path / "run/logs/a.log").mkdir()
        await cluster.apply(tiny_pod("a"), manager="m", force=True)

        async def told() -> dict[str, Any] | None:
            return engine_state(await pod_now(cluster, "a"))["state"].get("waiting")

        waiting = await eventually(told)
        while "message" not in waiting:
            waiting = await eventually(told)
        assert waiting["reason"] == "CreateContainerError"
        assert "Is a directory" in waiting["message"]


def test_a_cluster_is_made_without_touching_anything(tmp_path: Path):
    LocalCluster(IMAGES, run_dir=tmp_path / "run", router_port=free_pair(), admit=lambda new, old: new, environment={})
    assert not (tmp_path / "run").exists()

"""How pools begin and end, as a user sees it: exit codes, one line an error, and no process left."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest
from eventually import eventually
from kvpool_cli.runs import process_start
from up_process import environment, free_port, manifest, until_ready, up, write

SMALL = manifest(replicas=1)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "pool.yaml", SMALL)


def nothing_left(mark):
    return not [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if mark in environment(pid)]


def mark_of(started):
    return f"KVPOOL_LOCAL_RUN={started.folder.path.absolute()}"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -9)]
)
async def test_however_it_is_ended_no_process_is_left(file, number, code):
    async with up(file, "--port", str(free_port(23_000)), "--no-live") as started:
        await until_ready(started)
        processes = started.processes()
        assert len(processes) >= 2
        assert await started.end(number) == code
        await eventually(lambda: not any(map(process_start, processes)) and nothing_left(mark_of(started)))
    if number != signal.SIGKILL:
        assert started.folder.record() is None
        assert "Traceback" not in started.said()


async def test_ctrl_c_while_it_starts_leaves_nothing_either(file):
    async with up(file, "--port", str(free_port(23_100)), "--no-live") as started:
        await eventually(started.processes)
        assert await started.end() == 130
        await eventually(lambda: nothing_left(mark_of(started)))


async def test_the_once_ready_command_runs_against_the_pool_and_gives_its_exit_code(file):
    command = 'curl -s "$KVPOOL_URL/v1/models" | grep -q "$KVPOOL_MODEL" && test -n "$KVPOOL_ADMIN_URL" && exit 7'
    words = ("--once-ready", command, "--no-live", "--port", str(free_port(23_200)))
    async with up(file, *words) as started:
        async with asyncio.timeout(60):
            assert await started.process.wait() == 7, started.said()
        assert nothing_left(mark_of(started))


async def test_a_killed_parent_takes_the_once_ready_command_with_it(file):
    words = ("--once-ready", "sleep 321", "--quiet", "--port", str(free_port(23_300)))
    async with up(file, *words) as started:
        await eventually(lambda: _sleepers(started.process.pid), within_s=40)
        sleepers = _sleepers(started.process.pid)
        await started.end(signal.SIGKILL)
        await eventually(lambda: not any(map(process_start, sleepers)))
        await eventually(lambda: nothing_left(mark_of(started)))
        assert started.said() == ""


def _sleepers(parent):
    children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(line.split()[0]) for line in children.stdout.splitlines() if "sleep 321" in line]


async def test_a_pool_that_does_not_become_ready_in_time_says_why_and_is_exit_1(tmp_path):
    slow = manifest(replicas=1, engine={"env": [{"name": "KVPOOL_SIM_START_DELAY", "value": "60"}]})
    file = write(tmp_path / "pool.yaml", slow)
    async with up(file, "--timeout", "4", "--no-live", "--port", str(free_port(23_400))) as started:
        async with asyncio.timeout(30):
            assert await started.process.wait() == 1
        assert "kvpool: not ready after 4 s: pool: " in started.said()
        assert nothing_left(mark_of(started))


def kvpool(*words):
    return subprocess.run([sys.executable, "-m", "kvpool_cli.main", *words], capture_output=True, text=True, timeout=60)


def test_an_invalid_manifest_is_exit_2_with_the_crds_words_and_nothing_started(tmp_path):
    file = write(tmp_path / "pool.yaml", manifest("one", replicas=-1), manifest("two", nonsense=True))
    ended = kvpool("up", str(file), "--run-folder", str(tmp_path / "run"))
    assert ended.returncode == 2
    assert "spec.replicas: Invalid value: -1" in ended.stderr
    assert "nonsense" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_port_in_use_is_one_line(file, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = kvpool("up", str(file), "--port", port, "--run-folder", str(tmp_path / "run"))
    assert ended.returncode == 1
    assert f"port {port}" in ended.stderr
    assert "in use" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_missing_vllm_is_one_line_with_the_mend(file, tmp_path):
    ended = kvpool("up", str(file), "--engine", "vllm", "--run-folder", str(tmp_path / "run"))
    assert ended.returncode == 1
    assert "vLLM is not installed" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


async def test_a_pool_that_runs_is_not_taken_over_by_another_file_that_names_it_too(tmp_path):
    both = write(tmp_path / "both.yaml", manifest("one", replicas=1), manifest("two", replicas=1))
    others = write(tmp_path / "others.yaml", manifest("three", replicas=1), manifest("two", replicas=1))
    async with up(both, "--port", str(free_port(23_500)), "--no-live", pool="two") as started:
        await until_ready(started)
        record = started.record
        words = ("--port", str(free_port(23_600)), "--run-folder", str(started.folder.path.parent))
        ended = await asyncio.to_thread(kvpool, "up", str(others), *words)
        assert ended.returncode == 1
        assert f"pool two is already run by process {started.process.pid} (kvpool up {both})" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert started.record == record
        await started.end()


async def test_two_pools_of_one_file_answer_on_ports_that_step_up(tmp_path):
    port = free_port(23_700)
    file = write(tmp_path / "pools.yaml", manifest("one", replicas=1), manifest("two", replicas=1))
    async with up(file, "--port", str(port), "--no-live", pool="one") as started:
        await until_ready(started)
        records = [type(started.folder)(started.folder.path.parent, name).record() for name in ("one", "two")]
        assert len({record.url for record in records}) == 2
        assert f"http://127.0.0.1:{port}" in {record.url for record in records}
        await started.end()

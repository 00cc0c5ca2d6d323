"""Whoever edits the file of pools that run changes the pools: what a user sees of it, from another terminal too."""

import asyncio
import subprocess
import sys

import pytest
from eventually import eventually
from up_process import free_port, manifest, until_ready, up, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "pool.yaml", manifest(replicas=1))


async def status(started):
    words = (sys.executable, "-m", "kvpool_cli.main", "status", "--run-folder", str(started.folder.path.parent))
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


async def test_an_edited_file_changes_the_pool_that_runs_and_a_faulty_one_does_not(file):
    async with up(file, "--port", str(free_port(24_000)), "--no-live") as started:
        await until_ready(started)
        write(file, manifest(replicas=2))
        await eventually(lambda: f"{file} has changed: pool: spec.replicas: 1 -> 2" in started.said())
        await eventually(lambda: len(ready_engines(started)) == 2, within_s=20)

        write(file, manifest(replicas=-3))
        await eventually(lambda: "the pools run on as they were" in started.said())
        assert "spec.replicas: Invalid value: -3" in started.said()
        write(file, manifest("other", replicas=2))
        await eventually(lambda: "other would be new; pool would go" in started.said())
        write(file, manifest(replicas=2, model={"name": "another"}))
        await eventually(lambda: "model" in started.said().rpartition("the pools run on as they were")[2])

        assert len(ready_engines(started)) == 2
        assert "Traceback" not in started.said()
        assert await started.end() == 130


async def test_a_pool_at_zero_says_so_and_is_raised_by_an_edit(file):
    write(file, manifest(replicas=0))
    async with up(file, "--port", str(free_port(24_100)), "--no-live") as started:
        await eventually(lambda: "pool is scaled to zero: http://127.0.0.1:" in started.said(), within_s=30)
        assert "curl" not in started.said()
        assert "pool  scaled to zero" in await status(started)
        write(file, manifest(replicas=1))
        await eventually(lambda: len(ready_engines(started)) == 1, within_s=20)
        await started.end()


def ready_engines(started):
    seen = started.folder.seen()
    return [] if seen is None else [name for name, pod in seen.pods.items() if pod.state == "ready"]

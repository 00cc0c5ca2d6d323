"""`kvpool up` as a process of its own, as a user starts it, for tests."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from kvpool_api.wire import Decisions, RouterState
from kvpool_cli.runs import RunFolder, RunRecord
from kvpool_operator.cluster.local.addresses import is_free
from kvpool_operator.cluster.local.leftovers import marked

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
READY_WITHIN_S = 40


def manifest(name="pool", replicas=2, **spec):
    """A pool of simulated engines behind one router, where the spec asks for no more."""
    spec["router"] = {"replicas": 1} | spec.get("router", {})
    return {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"model": {"name": MODEL}, "replicas": replicas, **spec},
    }


def write(path: Path, *manifests) -> Path:
    path.write_text(yaml.safe_dump_all(manifests))
    return path


def free_port(start: int) -> int:
    """The first of two free ports in a row."""
    return next(p for p in range(start, 65000, 2) if is_free("127.0.0.1", p) and is_free("127.0.0.1", p + 1))


@dataclass
class Up:
    """A running `kvpool up`."""

    process: asyncio.subprocess.Process
    folder: RunFolder
    output: Path

    @property
    def record(self) -> RunRecord:
        found = self.folder.record()
        assert found is not None, self.said()
        return found

    def said(self) -> str:
        return self.output.read_text()

    def processes(self) -> list[int]:
        """Every process of the pool that lives now."""
        return sorted(marked(str(self.folder.path.absolute())))

    def pids_of(self, pod: str) -> list[int]:
        return [pid for pid in self.processes() if f"HOSTNAME={pod}" in environment(pid)]

    async def end(self, number: signal.Signals = signal.SIGINT, within_s: float = 20) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(within_s):
            return await self.process.wait()


def environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return []


@asynccontextmanager
async def up(file: Path, *words: str, pool: str = "pool") -> AsyncIterator[Up]:
    """Starts it beside its file; whatever happens, it is ended."""
    run_folder, output = file.parent / "run", file.parent / "output"
    command = (sys.executable, "-m", "kvpool_cli.main", "up", str(file), "--run-folder", str(run_folder), *words)
    with output.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, env=clean_environment())
    found = Up(process, RunFolder(run_folder, pool), output)
    try:
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KVPOOL_")}


@asynccontextmanager
async def ready(file: Path, *words: str, pool: str = "pool", within_s: float = READY_WITHIN_S) -> AsyncIterator["Pool"]:
    """A pool that is ready, with clients for its door and its admin endpoint."""
    port = str(free_port(21_000))
    async with up(file, "--port", port, *words, pool=pool) as started:
        await until_ready(started, within_s)
        async with aiohttp.ClientSession() as http:
            yield Pool(started, http)
        await started.end()


async def until_ready(started: Up, within_s: float = READY_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while "is ready:" not in started.said():
        assert started.process.returncode is None, started.said()
        assert time.monotonic() < deadline, f"not ready in time: {started.said()}"
        await asyncio.sleep(0.1)


@dataclass
class Pool:
    """What a client and an administrator can ask of a pool."""

    up: Up
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.up.record.url

    async def post(self, path: str, body: object, **options) -> tuple[int, dict[str, object]]:
        async with self.http.post(f"{self.url}{path}", json=body, **options) as answer:
            return answer.status, await answer.json()

    async def complete(self, prompt, tokens: int = 4, model: str = MODEL, **more) -> dict[str, object]:
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **more}
        status, answer = await self.post("/v1/completions", body)
        assert status == 200, answer
        return answer

    async def stream(self, prompt, tokens: int) -> str:
        """All that a stream says, to its end."""
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        async with self.http.post(f"{self.url}/v1/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.read()).decode()

    async def state(self) -> RouterState:
        return RouterState.model_validate_json(await self._admin("/state"))

    async def decisions(self) -> Decisions:
        return Decisions.model_validate_json(await self._admin("/decisions?limit=1000"))

    async def _admin(self, path: str) -> bytes:
        headers = {"X-Kvpool-Token": self.up.folder.token_file.read_text()}
        async with self.http.get(f"{self.up.record.admin_url}{path}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()


def ids(seed: int, count: int) -> list[int]:
    """A prompt of its own, as token ids."""
    return list(_ids(seed, count))


def _ids(seed: int, count: int) -> Iterator[int]:
    value = seed * 7919 + 1
    for _ in range(count):
        value = (value * 48271) % 2147483647
        yield 100 + value % 3000

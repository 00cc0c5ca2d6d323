"""Pools of simulated engines as `kvpool up` runs them, behind one router or two, and a client that asks all in turn."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from kvpool_api.wire import Decisions, RouterState

from benchmarks.replicas_rig.traffic import percent

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from eventually import eventually  # noqa: E402 - found only now
from up_process import MODEL, Pool, manifest, ready, write  # noqa: E402

OUTPUT_TOKENS = 8


class Answered(NamedTuple):
    """One request. Times in seconds of the monotonic clock."""

    sent_at: float
    router: str
    prompt_tokens: int
    cached_tokens: int


@dataclass
class Rig:
    """One pool under load."""

    pool: Pool
    prompts: Iterator[array[int]]
    routers: dict[str, dict[str, str]]
    """Pod -> URL by port's name."""
    answered: list[Answered] = field(default_factory=list)
    failed: int = 0
    """Requests that no router answered."""

    async def load(self, per_s: float, goes_on: Callable[[], bool], seed: int) -> None:
        """Open loop, at one router after the other; one that does not answer is passed over, as a Service does."""
        draw, number = random.Random(seed), 0
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while goes_on():
            due += draw.expovariate(per_s)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            number += 1
            task = asyncio.create_task(self._ask(number, next(self.prompts)))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def for_s(self, seconds: float, per_s: float, seed: int) -> float:
        """Hit rate, in percent, of as many requests as that is on average: so that two pools get the same prompts."""
        begun = time.monotonic()
        left = iter(range(round(seconds * per_s)))
        await self.load(per_s, lambda: next(left, None) is not None, seed)
        return self.hit_percent(begun, time.monotonic())

    def hit_percent(self, begin: float, end: float) -> float:
        those = [each for each in self.answered if begin <= each.sent_at < end]
        return percent(sum(each.cached_tokens for each in those), sum(each.prompt_tokens for each in those))

    async def state(self, router: str) -> RouterState:
        return RouterState.model_validate_json(await self._admin(router, "/state"))

    async def decisions(self, router: str) -> Decisions:
        return Decisions.model_validate_json(await self._admin(router, "/decisions?limit=1000"))

    def kill(self, router: str) -> None:
        for pid in self.pool.up.pids_of(router):
            os.kill(pid, signal.SIGKILL)

    async def until_ready(self, router: str) -> float:
        """The time at which it was."""
        await eventually(lambda: self._is_ready(router), within_s=60)
        return time.monotonic()

    async def _is_ready(self, router: str) -> bool:
        try:
            async with self.pool.http.get(f"{self.routers[router]['http']}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def _admin(self, router: str, path: str) -> bytes:
        headers = {"X-Kvpool-Token": self.pool.up.folder.token_file.read_text()}
        async with self.pool.http.get(f"{self.routers[router]['admin']}{path}", headers=headers) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def _ask(self, number: int, tokens: array[int]) -> None:
        routers = list(self.routers.items())
        body = {"model": MODEL, "prompt": list(tokens), "max_tokens": OUTPUT_TOKENS, "ignore_eos": True}
        for turn in range(len(routers)):
            name, urls = routers[(number + turn) % len(routers)]
            sent_at = time.monotonic()
            try:
                async with self.pool.http.post(f"{urls['http']}/v1/completions", json=body) as answer:
                    told: dict[str, Any] = await answer.json() if answer.status == 200 else {}
            except aiohttp.ClientError:
                continue
            if told:
                usage = told["usage"]
                cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                self.answered.append(Answered(sent_at, name, usage["prompt_tokens"], cached))
                return
        self.failed += 1


@asynccontextmanager
async def rig(
    folder: Path, routers: int, engines: int, cache_blocks: int, prompts: Iterator[array[int]]
) -> AsyncIterator[Rig]:
    """A pool that is ready; it has ended when the block is left."""
    engine = {"args": ["--num-gpu-blocks-override", str(cache_blocks)]}
    file = write(folder / "pool.yaml", manifest(replicas=engines, router={"replicas": routers}, engine=engine))
    async with ready(file, "--no-live") as pool:
        (members,) = pool.up.folder.path.rglob("default.pool.json")
        pods = json.loads(members.read_text())["items"]
        found = {
            p["metadata"]["name"]: _urls(p) for p in pods if p["metadata"]["labels"]["kvpool.dev/role"] == "router"
        }
        yield Rig(pool, prompts, found)


def _urls(pod: dict[str, Any]) -> dict[str, str]:
    ports = pod["spec"]["containers"][0]["ports"]
    return {port["name"]: f"http://{pod['status']['podIP']}:{port['containerPort']}" for port in ports}

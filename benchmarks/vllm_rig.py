"""A pool of two real vLLM engines with small caches, under load, and what is known of each of its requests."""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "vllm"), str(ROOT / "tests" / "support")]

from environment import MODEL as FOLDER  # noqa: E402 - found only now
from environment import interpreter, is_prepared  # noqa: E402
from eventually import eventually  # noqa: E402
from ipc_relay import relayed  # noqa: E402
from kvpool_api.wire import Decision, EventState, WorkerState  # noqa: E402
from mixed_requests import Ask, Mixture  # noqa: E402
from told_cache import Misprediction, ToldCache, listening  # noqa: E402
from up_process import Pool, ready, write  # noqa: E402

__all__ = [
    "Ask",
    "Decision",
    "EventState",
    "Misprediction",
    "Mixture",
    "Pool",
    "ToldCache",
    "eventually",
    "is_prepared",
    "relayed",
]

NAME = "tiny-llama"
BLOCK = 32
CACHE_BLOCKS = 640
MAX_TOKENS = 4096
START_S = 400
WATCH_S = 0.1
LOOKS_TO_DECISIONS = 100


def manifest() -> dict[str, Any]:
    engine = {
        "image": "vllm/vllm-openai-cpu:v0.32.0",
        "blockSize": BLOCK,
        "args": [
            *("--enforce-eager", "--max-model-len", str(MAX_TOKENS)),
            *("--num-gpu-blocks-override", str(CACHE_BLOCKS)),
        ],
        "startupTimeoutSeconds": 600,
    }
    spec = {
        "model": {"name": NAME, "source": {"path": str(FOLDER)}},
        "engine": engine,
        "resources": {"limits": {"cpu": "2", "memory": "8Gi"}},
        "router": {"replicas": 1},
        "replicas": 2,
    }
    kind = {"apiVersion": "kvpool.dev/v1alpha1", "kind": "InferencePool"}
    return {**kind, "metadata": {"name": "vllm"}, "spec": spec}


class Answered(NamedTuple):
    """One request, as its client saw it. Times in seconds since the epoch, by the same clock as the engines' events."""

    ask: Ask
    request_id: str
    status: int
    sent_at: float
    ended_at: float
    whole: bool
    """The answer came to its end."""


@dataclass
class Watched:
    """What the router's state was, again and again."""

    times: list[float] = field(default_factory=list)
    states: list[dict[str, EventState]] = field(default_factory=list)

    def add(self, workers: Sequence[WorkerState]) -> None:
        self.times.append(time.time())
        self.states.append({each.pod: each.events for each in workers if each.ready})

    def was_exact(self, pod: str, at: float) -> bool:
        """Before and after that time."""
        position = bisect_right(self.times, at)
        around = self.states[max(0, position - 1) : position + 1]
        return all(each.get(pod) is EventState.EXACT for each in around)


@dataclass
class Rig:
    """The pool, with an ear at each engine."""

    pool: Pool
    caches: dict[str, ToldCache]
    addresses: dict[str, tuple[str, str]]
    """Of events and replay, by pod, as the engine tells them."""
    watched: Watched = field(default_factory=Watched)
    answered: list[Answered] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    """By request; the router keeps the last thousand."""

    async def workers(self) -> list[WorkerState]:
        return (await self.pool.state()).workers

    async def until_exact(self, within_s: float = START_S) -> float:
        """Seconds until both engines serve and both maps are exact."""
        return await eventually(self._both_exact, within_s=within_s)

    async def _both_exact(self) -> bool:
        try:
            found = await self.workers()
        except OSError:
            return False
        return len(found) == 2 and all(each.ready and each.synced and each.events is EventState.EXACT for each in found)

    async def send(self, ask: Ask) -> Answered:
        sent_at, request_id, status, whole = time.time(), "", 0, False
        try:
            async with self.pool.http.post(f"{self.pool.url}{ask.path}", json=ask.body) as answer:
                request_id, status = answer.headers.get("x-request-id", ""), answer.status
                text = await answer.read()
                whole = answer.status == 200 and b'"error"' not in text[-400:]
        except OSError:
            pass
        found = Answered(ask, request_id, status, sent_at, time.time(), whole)
        self.answered.append(found)
        return found

    async def load(self, asks: Iterator[Ask], concurrency: int, go_on: Callable[[], bool]) -> None:
        """Closed loop, as long as it is to go on."""

        async def client() -> None:
            while go_on():
                await self.send(next(asks))

        await asyncio.gather(*(client() for _ in range(concurrency)))

    async def decided(self) -> dict[str, Decision]:
        self.decisions |= {each.request_id: each for each in (await self.pool.decisions()).decisions}
        return self.decisions

    async def token_ids(self, ask: Ask, url: str) -> list[int]:
        """As an engine renders the request."""
        prompt = ask.body.get("prompt")
        if isinstance(prompt, list):
            return prompt
        async with self.pool.http.post(f"{url}{ask.path}/render", json=dict(ask.body)) as answer:
            found = await answer.json()
        one = found[0] if isinstance(found, list) else found
        ids: list[int] = one["token_ids"]
        return ids

    async def complete_at(self, url: str, prompt: list[int]) -> None:
        """Past the router."""
        body = {"model": NAME, "prompt": prompt, "max_tokens": 1}
        async with self.pool.http.post(f"{url}/v1/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """Starts it all; afterwards nothing of it is left."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = write(folder / "vllm.yaml", manifest())
        words = ("--engine", "vllm", "--vllm-python", str(interpreter()), "--no-live")
        pool = await stack.enter_async_context(ready(file, *words, pool="vllm", within_s=START_S))
        found = Rig(pool, {}, {})
        await found.until_exact()
        for worker in await found.workers():
            found.addresses[worker.pod] = events, _ = await _addresses(pool, worker.url)
            found.caches[worker.pod] = ToldCache(BLOCK)
            await stack.enter_async_context(listening(events, found.caches[worker.pod]))
        watching = asyncio.create_task(_watch(found))
        stack.callback(watching.cancel)
        yield found


async def _addresses(pool: Pool, url: str) -> tuple[str, str]:
    async with pool.http.get(f"{url}/kv_event_sources") as answer:
        told = json.loads(await answer.read())
    source = told["0"] if isinstance(told, dict) else told[0]
    return source["endpoint"], source["replay_endpoint"]


async def _watch(found: Rig) -> None:
    for look in itertools.count():
        try:
            found.watched.add(await found.workers())
            if look % LOOKS_TO_DECISIONS == 0:
                await found.decided()
        except OSError:
            found.watched.add([])
        await asyncio.sleep(WATCH_S)


def decided_at(decision: Decision) -> float:
    return datetime.fromisoformat(decision.time).timestamp()


def token_prompts(seed: int, tokens: int) -> Iterator[list[int]]:
    """Prompts of which no two begin alike."""
    for number in itertools.count(seed):
        yield [100 + (number * 7919 + each * 104_729) % 6900 for each in range(tokens)]

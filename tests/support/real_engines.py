"""What the tests of real vLLM share: examples/cpu-vllm.yaml as one pool, and how it is asked and judged."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from eventually import eventually
from kvpool_api.wire import EventState
from mixed_requests import CHAT, MESSAGES, RESPONSES, TEXT
from told_cache import ToldCache, listening
from up_process import Pool, ids, ready

__all__ = ["CHAT", "MESSAGES", "RESPONSES", "TEXT", "ids"]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cpu-vllm.yaml"
FOLDER = Path("/var/tmp/kvpool/tiny-llama")
MODEL, ADAPTER = "tiny-llama", "tiny-adapter"
BLOCK, CACHE_BLOCKS = 32, 288
START_S = 240
RULES = "You route requests to engines. Prefer the engine that holds the longest prefix; be brief and exact. " * 24
TURNS = [
    {"role": "system", "content": RULES},
    {"role": "user", "content": "Wie heißt 北京 auf Deutsch? 🙂"},
    {"role": "assistant", "content": "Peking.\n\n  - naïve façade —"},
    {"role": "user", "content": "def f(x):\n    return x  # <|im_end|> stays text?\t"},
]


@dataclass
class RealPool(Pool):
    """Two engines whose caches are so small that they evict, with an ear of the tests' own at each."""

    caches: dict[str, ToldCache]
    addresses: dict[str, tuple[str, str]]
    """Of events and replay, by pod, as the engine tells them."""

    async def workers(self):
        return (await self.state()).workers

    async def worker(self, pod):
        return next(each for each in await self.workers() if each.pod == pod)

    async def newest(self):
        return (await self.decisions()).decisions[0]

    async def both_exact(self):
        try:
            found = await self.workers()
        except OSError:  # no router answers
            return False
        return len(found) == 2 and all(each.ready and each.synced and each.events == EventState.EXACT for each in found)

    async def caught_up(self):
        """The map stands still and no request is under way: what the engines have announced so far is in it."""
        before = [(each.in_flight, each.last_sequence) for each in await self.workers()]
        await asyncio.sleep(0.1)
        return before == [(0, each.last_sequence) for each in await self.workers()]

    async def send(self, path, body):
        async with self.http.post(f"{self.url}{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def ask_engine(self, url, path, body):
        """Past the router."""
        async with self.http.post(f"{url}{path}", json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def ask_engine_about(self, url, path):
        async with self.http.get(f"{url}{path}") as answer:
            return answer.status, await answer.json()

    async def lines(self, path, body):
        """The data lines of a stream, and its last one."""
        body = {"model": MODEL, "stream": True, **body}
        async with self.http.post(f"{self.url}{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            text = (await answer.read()).decode()
        data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in data if line != "[DONE]"], data[-1]

    async def judged(self, batch):
        """The decisions about a batch that has ended."""
        await eventually(self.caught_up)
        return (await self.decisions()).decisions[: len(batch)]


@asynccontextmanager
async def real_pool(folder: Path, python: str) -> AsyncIterator[RealPool]:
    async with AsyncExitStack() as stack:
        file = folder / EXAMPLE.name
        file.write_text(yaml.safe_dump(tight(yaml.safe_load(EXAMPLE.read_text()))))
        words = ("--engine", "vllm", "--vllm-python", python, "--no-live")
        started = await stack.enter_async_context(ready(file, *words, pool="cpu-vllm", within_s=START_S))
        pool = RealPool(started.up, started.http, {}, {})
        for worker in await pool.workers():
            async with pool.http.get(f"{worker.url}/kv_event_sources") as answer:
                source = (await answer.json())["0"]
            pool.addresses[worker.pod] = (source["endpoint"], source["replay_endpoint"])
            pool.caches[worker.pod] = ToldCache(BLOCK)
            await stack.enter_async_context(listening(source["endpoint"], pool.caches[worker.pod]))
        yield pool


def tight(manifest):
    """The example, with caches that overflow, a LoRA adapter, and the paths that vLLM opens to developers.

    And one router, which so knows of every decision.
    """
    manifest["spec"]["router"] = {"replicas": 1}
    engine = manifest["spec"]["engine"]
    engine["args"] += ["--num-gpu-blocks-override", str(CACHE_BLOCKS)]
    engine["args"] += ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{ADAPTER}={FOLDER / 'adapter'}"]
    engine["env"].append({"name": "VLLM_SERVER_DEV_MODE", "value": "1"})
    return manifest


def chat(text, **more):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}


def text(prompt):
    return TEXT, {"model": MODEL, "prompt": prompt, "max_tokens": 4}


def cached_of(answer):
    """Cached prompt tokens in whichever of the four shapes."""
    usage = answer["usage"]
    if "prompt_tokens" in usage:
        return usage["prompt_tokens_details"]["cached_tokens"]
    return usage["cache_read_input_tokens"] if "cache_read_input_tokens" in usage else _of_responses(usage)


def _of_responses(usage):
    return usage["input_tokens_details"]["cached_tokens"]


def mispredicted(decisions):
    return [each for each in decisions if each.predicted_cached_tokens != each.cached_tokens]


def fillers(tokens: int, seed: int) -> Iterator[list[int]]:
    """Prompts that fill a cache of so many tokens between them; none begins as another does."""
    for number in range(-(-tokens // 4000)):
        yield ids(seed + number, 4000)

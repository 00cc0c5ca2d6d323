"""Streams in flight, for as long as a test changes the pool under them: a Pod that keeps so many open and counts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from kubectl import Kubectl, Refused, until
from pools_in_cluster import MODEL, simulated

PROGRAM = r"""
import asyncio, json, os, sys, time
import aiohttp

url, model, streams, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ok, failed, in_flight = 0, [], set()

async def one(http, number, turn):
    prompt = f"{number % 16} {'Say it again. ' * 40} {turn}"
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True}
    last = b""
    try:
        async with http.post(url + "/v1/completions", json=body) as answer:
            if answer.status != 200:
                return f"{answer.status} {(await answer.text())[:300]}"
            async for line in answer.content:
                if b'"error"' in line:
                    return line.decode()[:300]
                if last == b"":
                    in_flight.add(number)
                last = line.strip() or last
    except Exception as error:
        return f"{type(error).__name__}: {error}, after {last[:100]!r}"
    finally:
        in_flight.discard(number)
    return None if last == b"data: [DONE]" else f"cut after {last[:100]!r}"

async def lane(http, number):
    global ok
    await asyncio.sleep(number * 0.02)
    turn = 0
    while not os.path.exists("/tmp/stop"):
        words = await one(http, number, turn)
        turn += 1
        if words is None:
            ok += 1
        else:
            failed.append(f"{time.strftime('%H:%M:%S')} {words}")
            await asyncio.sleep(0.5)

def tell():
    told = {"ok": ok, "failed": failed[:20], "failures": len(failed), "in_flight": len(in_flight)}
    print(json.dumps(told), flush=True)

async def keep_telling():
    while True:
        tell()
        await asyncio.sleep(1)

async def main():
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=20)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        telling = asyncio.create_task(keep_telling())
        await asyncio.gather(*(lane(http, number) for number in range(streams)))
        telling.cancel()
    tell()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Streams:
    """`count` streams of so many tokens to the pool's Service; a new one follows each that has ended."""

    kubectl: Kubectl
    url: str
    count: int
    tokens: int
    name: str = "streams"

    def start(self) -> None:
        """Returns when all of them have had their first byte at some one moment."""
        command = ["python", "-c", PROGRAM, self.url, MODEL, str(self.count), str(self.tokens)]
        container = {"name": "streams", "image": simulated(), "command": command}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": spec})
        self.kubectl("wait", "--for=condition=Ready", f"pod/{self.name}", "--timeout=60s", timeout_s=70)
        until(lambda: self.told()["in_flight"] >= self.count * 0.9, within_s=60, otherwise=self.told)

    def told(self) -> dict[str, Any]:
        """ok, failed (the first words of each), failures, in_flight: a second old at most."""
        lines = self.kubectl("logs", "--tail=1", self.name).splitlines()
        told: dict[str, Any] = (
            json.loads(lines[-1]) if lines else {"ok": 0, "failures": 0, "failed": [], "in_flight": 0}
        )
        return told

    def end(self) -> dict[str, Any]:
        """Begins no more, and lets those in flight end."""
        self.kubectl("exec", self.name, "--", "python", "-c", "open('/tmp/stop', 'w')")
        until(lambda: self._phase() == "Succeeded", within_s=120, otherwise=self.told)
        return self.told()

    def _phase(self) -> str:
        return str(self.kubectl.get("pod", self.name)["status"]["phase"])


@contextmanager
def streaming(kubectl: Kubectl, url: str, count: int, tokens: int) -> Iterator[Streams]:
    """In flight in the block; gone after it."""
    streams = Streams(kubectl, url, count, tokens)
    streams.start()
    try:
        yield streams
    finally:
        with suppress(Refused):
            kubectl("delete", "pod", streams.name, "--ignore-not-found", "--wait=true", "--timeout=20s")

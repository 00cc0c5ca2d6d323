"""The client's side: streams with the moment of each arrival, over raw connections to be no bottleneck."""

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

PROMPT_TOKENS = 1024
SHARED_TOKENS = 768
FAMILIES = 20


class _Client(asyncio.Protocol):
    """One keep-alive connection; an answer ends with its last chunk."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def ask(self, request: bytes) -> "asyncio.Future[bool]":
        self.arrivals: list[float] = []
        self.head = b""
        self._ended: asyncio.Future[bool] = self._loop.create_future()
        self._transport.write(request)
        return self._ended

    def data_received(self, data: bytes) -> None:
        self.head = self.head or data[:64]
        if b"data: " in data:
            self.arrivals.append(perf_counter())
        self._tail = (self._tail + data)[-16:]
        if self._tail.endswith(b"0\r\n\r\n") and not self._ended.done():
            self._ended.set_result(self.head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "_ended") and not self._ended.done():
            self._ended.set_result(False)

    def close(self) -> None:
        self._transport.close()


@dataclass
class Outcome:
    """What one batch of streams showed."""

    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    errors: int = 0
    wall_s: float = 0.0


def prompts(count: int, seed: int, chunks: int) -> list[bytes]:
    """Request bodies of token ids: families with a shared beginning, as tenants with a system prompt have."""
    draw = random.Random(seed)
    shared = [[draw.randrange(32_000) for _ in range(SHARED_TOKENS)] for _ in range(FAMILIES)]
    found = []
    for _ in range(count):
        own = [draw.randrange(32_000) for _ in range(PROMPT_TOKENS - SHARED_TOKENS)]
        body = {"model": "stub", "stream": True, "max_tokens": chunks, "prompt": draw.choice(shared) + own}
        found.append(json.dumps(body).encode())
    return found


async def run(port: int, bodies: Sequence[bytes], concurrency: int) -> Outcome:
    """Sends the bodies over `concurrency` connections, each as soon as the one before has ended."""
    loop = asyncio.get_running_loop()
    outcome, queue = Outcome(), list(reversed(bodies))
    began = perf_counter()

    async def one_client() -> None:
        _, client = await loop.create_connection(_Client, "127.0.0.1", port)
        while queue:
            await _one(client, queue.pop(), outcome)
        client.close()

    await asyncio.gather(*(one_client() for _ in range(concurrency)))
    outcome.wall_s = perf_counter() - began
    return outcome


async def _one(client: _Client, body: bytes, outcome: Outcome) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    began = perf_counter()
    if not await client.ask(head % len(body) + body):
        outcome.errors += 1
        return
    times = client.arrivals
    outcome.first_s.append(times[0] - began)
    outcome.gaps_s += [after - before for before, after in itertools.pairwise(times)]

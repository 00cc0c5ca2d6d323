"""Engines that do nothing but publish KV events and answer replays, as vLLM 0.32 does, all in one process.

`python -m benchmarks.event_rig.publishers COUNT BLOCKS_PER_S`. The first line out tells the addresses. Then each line
in is an order, answered by one line of JSON: `go`, `pause`, `restart K` (anew at the same address), `sequences`.
"""

import contextlib
import json
import random
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import zmq

BLOCK_TOKENS, BLOCKS_A_BATCH, BATCHES_A_PROMPT, CACHE_BLOCKS = 16, 8, 4, 2048
BUFFER_BATCHES = 10_000
END = (-1).to_bytes(8, "big", signed=True)
ANY_PORT = "tcp://127.0.0.1:*"


@dataclass
class Engine:
    """One publisher with its sockets; blocks leave its cache in the order in which they came."""

    name: str
    context: zmq.Context[zmq.Socket[bytes]]
    events: str = ANY_PORT
    replay: str = ANY_PORT
    sequence: int = 0
    held: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    buffer: "deque[tuple[int, bytes]]" = field(default_factory=lambda: deque(maxlen=BUFFER_BATCHES))

    def open(self) -> None:
        self.pub, self.router = self.context.socket(zmq.PUB), self.context.socket(zmq.ROUTER)
        for each, address in ((self.pub, self.events), (self.router, self.replay)):
            each.set(zmq.LINGER, 0)
            each.set(zmq.SNDHWM, 100_000)
            _bind(each, address)
        self.events, self.replay = (each.get_string(zmq.LAST_ENDPOINT) for each in (self.pub, self.router))

    def restart(self) -> None:
        self.pub.close()
        self.router.close()
        self.sequence = 0
        self.held.clear()
        self.buffer.clear()
        self.open()

    def publish(self, draw: random.Random) -> None:
        parent = next(reversed(self.held), None) if self.sequence % BATCHES_A_PROMPT else None
        hashes = [draw.getrandbits(64) for _ in range(BLOCKS_A_BATCH)]
        events: list[dict[str, object]] = [
            {
                "type": "BlockStored",
                "block_hashes": hashes,
                "parent_block_hash": parent,
                "token_ids": draw.choices(range(128_000), k=BLOCKS_A_BATCH * BLOCK_TOKENS),
                "block_size": BLOCK_TOKENS,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
                "group_idx": 0,
                "kv_cache_spec_kind": "full_attention",
            }
        ]
        self.held.update(dict.fromkeys(hashes))
        while len(self.held) > CACHE_BLOCKS:
            gone, _ = self.held.popitem(last=False)
            events.append({"type": "BlockRemoved", "block_hashes": [gone], "medium": "GPU", "group_idx": 0})
        payload = msgspec.msgpack.encode([time.time(), events, 0])
        self.pub.send_multipart((f"kv@{self.name}".encode(), self.sequence.to_bytes(8, "big"), payload))
        self.buffer.append((self.sequence, payload))
        self.sequence += 1

    def answer(self) -> None:
        client, _, start = self.router.recv_multipart()
        for sequence, payload in self.buffer:
            if sequence >= int.from_bytes(start, "big"):
                self.router.send_multipart((client, b"", b"kv", sequence.to_bytes(8, "big"), payload))
        self.router.send_multipart((client, b"", b"", END, b""))


def _bind(socket: zmq.Socket[bytes], address: str) -> None:
    """libzmq gives an address back some time after its socket was closed."""
    for _ in range(500):
        with contextlib.suppress(zmq.ZMQError):
            socket.bind(address)
            return
        time.sleep(0.002)
    raise SystemExit(f"{address} is taken")


class Fleet:
    """Publishes in turn, at equal distances; between two batches it answers, as an engine's publisher thread does."""

    def __init__(self, count: int, blocks_per_s: float) -> None:
        context = zmq.Context[zmq.Socket[bytes]](io_threads=1)
        self._draw = random.Random(count)
        self.engines = [Engine(f"engine-{number}", context) for number in range(count)]
        for engine in self.engines:
            engine.open()
        self._pause_s = BLOCKS_A_BATCH / blocks_per_s if blocks_per_s else 0.0
        self._due: float | None = None
        self._turn = 0

    def run(self) -> None:
        while True:
            self._publish_what_is_due()
            for ready in self._wait():
                if ready == sys.stdin.fileno():
                    if not (line := sys.stdin.readline()):
                        return
                    print(json.dumps(self._obey(*line.split())), flush=True)
                else:
                    next(engine for engine in self.engines if engine.router is ready).answer()

    def _wait(self) -> list[object]:
        poller = zmq.Poller()
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        for engine in self.engines:
            poller.register(engine.router, zmq.POLLIN)
        left_s = 1.0 if self._due is None else max(0.0, self._due - time.monotonic())
        return [each for each, _ in poller.poll(left_s * 1000)]

    def _publish_what_is_due(self) -> None:
        while self._due is not None and self._due <= time.monotonic():
            self.engines[self._turn % len(self.engines)].publish(self._draw)
            self._turn += 1
            self._due += self._pause_s

    def _obey(self, order: str, *arguments: str) -> object:
        orders: dict[str, Callable[..., object]] = {
            "go": self._go,
            "pause": self._stop,
            "restart": lambda number: self.engines[int(number)].restart(),
            "sequences": lambda: {engine.name: engine.sequence - 1 for engine in self.engines},
        }
        return orders[order](*arguments)

    def _go(self) -> None:
        self._due = time.monotonic()

    def _stop(self) -> None:
        self._due = None


def main() -> None:
    fleet = Fleet(int(sys.argv[1]), float(sys.argv[2]))
    addresses = {engine.name: {"events": engine.events, "replay": engine.replay} for engine in fleet.engines}
    print(json.dumps(addresses), flush=True)
    fleet.run()


if __name__ == "__main__":
    main()

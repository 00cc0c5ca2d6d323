"""KV events over ZeroMQ, framed as vLLM frames them (distributed/kv_events.py, 0.32).

PUB:    [topic, sequence (8 bytes, big endian, from 0), payload]
ROUTER: a DEALER sends [b"", start (8 bytes)] and receives [b"", topic, sequence, payload] … [b"", b"", -1, b""]
payload: msgpack of [timestamp, [event, …], dp_rank]
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import zmq
import zmq.asyncio

from kvpool_sim.core.events import (
    AllBlocksCleared,
    BlockDropped,
    BlockOffloaded,
    BlockRemoved,
    BlockStored,
    KvEvent,
)

REPLAY_END = (-1).to_bytes(8, "big", signed=True)
SEND_LIMIT = 100_000
_LINGER_MS = 200

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Publishing:
    """vLLM's `--kv-events-config`, as far as it matters here, with the DP rank already in the ports."""

    endpoint: str
    replay_endpoint: str | None
    topic: str
    buffer_steps: int = 10_000


def payload(timestamp: float, events: Sequence[KvEvent], dp_rank: int, block_size: int) -> bytes:
    """One batch as vLLM encodes it: keys and their order are those of captured frames."""
    return _encode([timestamp, [_as_map(event, block_size) for event in events], dp_rank])


def _as_map(event: KvEvent, block_size: int) -> dict[str, object]:
    match event:
        case BlockStored():
            return {
                "type": "BlockStored",
                "block_hashes": event.hashes,
                "parent_block_hash": event.parent,
                "token_ids": event.token_ids,
                "block_size": block_size,
                "lora_id": None if event.adapter is None else 1,
                "medium": "GPU",
                "lora_name": event.adapter,
                "extra_keys": event.extra_keys,
                "group_idx": 0,
                "kv_cache_spec_kind": "full_attention",
            }
        case BlockRemoved():
            return {"type": "BlockRemoved", "block_hashes": event.hashes, "medium": "GPU", "group_idx": 0}
        case BlockOffloaded():
            return {
                "type": "BlockStored",
                "block_hashes": (event.value,),
                "parent_block_hash": None,
                "token_ids": (),
                "block_size": 0,
                "lora_id": None,
                "medium": "CPU",
                "lora_name": None,
                "group_idx": 0,
            }
        case BlockDropped():
            return {"type": "BlockRemoved", "block_hashes": event.hashes, "medium": "CPU", "group_idx": 0}
        case AllBlocksCleared():
            return {"type": "AllBlocksCleared"}


class Publisher:
    """One DP rank's publisher. Sending never waits: what a slow subscriber cannot take is lost to it, as with vLLM."""

    def __init__(self, publishing: Publishing, dp_rank: int, block_size: int) -> None:
        self._publishing = publishing
        self._rank = dp_rank
        self._block_size = block_size
        self._topic = publishing.topic.encode()
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=publishing.buffer_steps)
        self._sequence = 0
        self._serving: asyncio.Task[None] | None = None
        self.dropping = 0
        """Batches still to be lost on the way (they stay in the replay buffer)."""
        self.lie: Callable[[Sequence[KvEvent]], Sequence[KvEvent]] | None = None
        """What is told in place of what happened, live and in replays."""
        self.hung = False
        """Neither publishes nor answers, and keeps its sockets open."""

    def start(self) -> None:
        """Binds. Raises zmq.ZMQError when an address is taken; nothing is open then."""
        self._context = zmq.Context()
        try:
            self._bind()
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise

    def _bind(self) -> None:
        # PUB has the plain interface: sending to it never blocks, so it need not be awaited
        self._pub = self._context.socket(zmq.PUB)
        self._pub.set_hwm(SEND_LIMIT)
        self._pub.setsockopt(zmq.LINGER, _LINGER_MS)
        self._pub.bind(self._publishing.endpoint)
        if self._publishing.replay_endpoint:
            router = zmq.asyncio.Context(self._context).socket(zmq.ROUTER)
            router.setsockopt(zmq.LINGER, 0)
            router.bind(self._publishing.replay_endpoint)
            self._serving = asyncio.create_task(self._replay(router))

    def publish(self, timestamp: float, events: Sequence[KvEvent]) -> None:
        events = self.lie(events) if self.lie else events
        self.publish_raw(payload(timestamp, events, self._rank, self._block_size))

    def publish_raw(self, batch: bytes) -> None:
        """Any bytes as the next batch."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._buffer.append((sequence, batch))
        if self.dropping:
            self.dropping -= 1
        elif not self.hung:
            self._pub.send_multipart((self._topic, sequence.to_bytes(8, "big"), batch), flags=zmq.NOBLOCK)

    def restart_sequence(self) -> None:
        """As if the engine had restarted behind the same address: from 0 again, with nothing to replay."""
        self._sequence = 0
        self._buffer.clear()

    async def close(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        self._pub.close()
        self._context.destroy()

    async def _replay(self, router: zmq.asyncio.Socket) -> None:
        try:
            while True:
                who, *rest = await router.recv_multipart()
                if rest and len(rest[-1]) == 8 and not self.hung:
                    await self._answer(router, who, int.from_bytes(rest[-1], "big"))
        finally:
            router.close()

    async def _answer(self, router: zmq.asyncio.Socket, who: bytes, start: int) -> None:
        for sequence, batch in tuple(self._buffer):
            if sequence >= start:
                await router.send_multipart((who, b"", self._topic, sequence.to_bytes(8, "big"), batch))
        await router.send_multipart((who, b"", b"", REPLAY_END, b""))

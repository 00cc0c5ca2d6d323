"""A real ZMQ publisher of KV events that answers replays as vLLM 0.32's does: live first, then between two batches."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import zmq

BLOCK_TOKENS = 16
END = (-1).to_bytes(8, "big", signed=True)
Event = dict[str, object]


def stored(block: int, *, blocks: int = 1, block_tokens: int = BLOCK_TOKENS) -> Event:
    """Blocks of a prompt of its own, so that none of them needs another."""
    count = blocks * block_tokens
    return {
        "type": "BlockStored",
        "block_hashes": [block * 1000 + 1 + each for each in range(blocks)],
        "parent_block_hash": None,
        "token_ids": [(block * 7919 + each) % 50_000 for each in range(count)],
        "block_size": block_tokens,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
    }


def below(block: int, medium: str) -> Event:
    """A copy of `stored(block)` below the GPU, as vLLM's connector tells it."""
    told = {"parent_block_hash": None, "token_ids": [], "block_size": 0, "lora_id": None, "lora_name": None}
    return {"type": "BlockStored", "block_hashes": [block * 1000 + 1], "medium": medium, **told}


def removed(block: int) -> Event:
    return {"type": "BlockRemoved", "block_hashes": [block * 1000 + 1], "medium": "GPU"}


def tokens_of(block: int, *, blocks: int = 1) -> bytes:
    """The prompt of `stored(block)`, one token longer, as the map takes it."""
    count = blocks * BLOCK_TOKENS
    ids = [*((block * 7919 + each) % 50_000 for each in range(count)), 1]
    return b"".join(each.to_bytes(4, "little") for each in ids)


class EventPublisher:
    """Runs in a thread of its own; every method returns when the thread has done it.

    Args:
        events, replay: addresses to bind; port 0 takes a free one, to be read from `events` and `replay` then.
        buffer_batches: how many batches a replay can reach back.
        replay_parts: 4 with the topic (vLLM from 0.33), 3 without (before).

    """

    def __init__(
        self,
        events: str = "tcp://127.0.0.1:*",
        replay: str = "tcp://127.0.0.1:*",
        *,
        buffer_batches: int = 10_000,
        replay_parts: int = 4,
        topic: bytes = b"kv@test",
        clock: Callable[[], float] = lambda: 1000.0,
    ) -> None:
        self._context = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._router = self._context.socket(zmq.ROUTER)
        for socket, address in ((self._pub, events), (self._router, replay)):
            socket.set(zmq.LINGER, 0)
            socket.bind(address)
        self.events = self._pub.get_string(zmq.LAST_ENDPOINT)
        self.replay = self._router.get_string(zmq.LAST_ENDPOINT)
        self.replays = 0
        self.hung = False
        """Replay requests are left unanswered."""
        self.sequence = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=buffer_batches)
        self._replay_parts = replay_parts
        self._topic = topic
        self._clock = clock
        self._work: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def publish(self, *batches: Sequence[Event], lose: bool = False) -> None:
        """Publishes batches; lost ones are numbered and kept for replay, but not sent."""
        payloads = [msgspec.msgpack.encode([self._clock(), list(events), 0]) for events in batches]

        def publish() -> None:
            for payload in payloads:
                self._publish(payload, lose)

        self._do(publish)

    def publish_payload(self, payload: bytes, *, lose: bool = False) -> None:
        self._do(lambda: self._publish(payload, lose))

    def send_raw(self, *parts: bytes) -> None:
        self._do(lambda: self._pub.send_multipart(parts))

    def renumber(self) -> None:
        """Begins again from 0 with an empty buffer, all sockets open."""

        def begin() -> None:
            self.sequence = 0
            self._buffer.clear()

        self._do(begin)

    def unbind(self) -> None:
        """Closes the live socket, with all its connections; numbers and buffer go on."""
        self._do(self._pub.close)

    def bind(self, address: str) -> None:
        """Opens it again."""

        def open_again() -> None:
            self._pub = self._context.socket(zmq.PUB)
            self._pub.set(zmq.LINGER, 0)
            self._pub.bind(address)

        self._do(open_again)

    def close(self) -> None:
        """Idempotent. The addresses can be bound again at once."""
        self._ended.set()
        self._thread.join()

    def _do(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self._work.append((work, done))
        assert done.wait(10), "the publisher's thread has died"

    def _run(self) -> None:
        while not self._ended.is_set():
            while self._work:
                work, done = self._work.popleft()
                work()
                done.set()
            if self.hung:
                self._ended.wait(0.001)
            elif self._router.poll(1) and not self.hung:
                self._answer()
        self._pub.close()
        self._router.close()
        self._context.term()

    def _publish(self, payload: bytes, lose: bool) -> None:
        if not (lose or self._pub.closed):
            self._pub.send_multipart((self._topic, self.sequence.to_bytes(8, "big"), payload))
        self._buffer.append((self.sequence, payload))
        self.sequence += 1

    def _answer(self) -> None:
        client, _, start = self._router.recv_multipart()
        self.replays += 1
        topic = (self._topic,) if self._replay_parts == 4 else ()
        for sequence, payload in self._buffer:
            if sequence >= int.from_bytes(start, "big"):
                self._router.send_multipart((client, b"", *topic, sequence.to_bytes(8, "big"), payload))
        self._router.send_multipart((client, b"", *(b"" for _ in topic), END, b""))

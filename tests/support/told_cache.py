"""What an engine said of its cache, with times: plain dictionaries beside the router's index, to judge it by.

It listens by itself, straight to the engine, and holds of a block no more than its hash, so that nothing is shared with
what it judges but the decoder.
"""

import asyncio
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import zmq
import zmq.asyncio
from kvpool_router.events.wire import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent, decode

LATEST_EVENT_S = 0.2
"""The events of a step are sent when it has ended."""
Chain = tuple[str | None, bytes]
"""Cache salt, and the tokens from the prompt's first one to the block's last."""


@dataclass
class ToldCache:
    """One engine's cache over time, as far as it was listened to."""

    block_tokens: int
    removed: int = 0
    _changes: list[float] = field(default_factory=list)
    """When each single change was; its position here is the moment after it. Those of one batch have the same time."""
    _chains: dict[int, Chain] = field(default_factory=dict)
    _copies: Counter[int] = field(default_factory=Counter)
    _moments: dict[Chain, list[tuple[int, bool]]] = field(default_factory=dict)
    """At which each chain's last block came and went."""

    def take(self, at: float, events: Sequence[KvEvent]) -> None:
        for event in events:
            match event:
                case BlockStored():
                    self._store(at, event)
                case BlockRemoved():
                    self._remove(at, event.block_hashes)
                case AllBlocksCleared():
                    self.clear(at)

    def clear(self, at: float) -> None:
        """It was emptied, or its process is no more."""
        for block in [block for block, copies in self._copies.items() if copies > 0]:
            self._copies[block] = 1
            self._remove(at, [block])

    def held(self, tokens: Sequence[int], salt: str | None, since: float, until: float) -> list[int]:
        """Tokens of whole blocks that it held of the prompt, never all of it: at first, and after each change."""
        chains = list(self._prompt(tokens, salt))
        first, end = bisect_right(self._changes, since) - 1, bisect_right(self._changes, until)
        touched = {moment for chain in chains for moment, _ in self._moments.get(chain, ()) if first < moment < end}
        return [self._at(chains, moment) for moment in (first, *sorted(touched))]

    def _prompt(self, tokens: Sequence[int], salt: str | None) -> Iterator[Chain]:
        for end in range(self.block_tokens, len(tokens), self.block_tokens):
            yield salt, array("I", tokens[:end]).tobytes()

    def _at(self, chains: Sequence[Chain], moment: int) -> int:
        found = next((n for n, chain in enumerate(chains) if not self._was_there(chain, moment)), len(chains))
        return found * self.block_tokens

    def _was_there(self, chain: Chain, moment: int) -> bool:
        history = self._moments.get(chain, [])
        position = bisect_right(history, (moment, True))
        return position > 0 and history[position - 1][1]

    def _note(self, at: float, chain: Chain, *, there: bool) -> None:
        self._changes.append(max(at, self._changes[-1] if self._changes else 0.0))
        self._moments.setdefault(chain, []).append((len(self._changes) - 1, there))

    def _store(self, at: float, event: BlockStored) -> None:
        salt, before = self._chains.get(event.parent_block_hash or 0, (self._salt(event), b""))
        size = 4 * event.block_size
        for number, block in enumerate(event.block_hashes):
            before += event.token_ids[number * size : (number + 1) * size]
            self._chains[block] = (salt, before)
            self._copies[block] += 1
            if self._copies[block] == 1:
                self._note(at, (salt, before), there=True)

    def _salt(self, event: BlockStored) -> str | None:
        keys = event.extra_keys[0] if event.extra_keys else None
        return next((key for key in keys or () if isinstance(key, str)), None)

    def _remove(self, at: float, blocks: Sequence[int]) -> None:
        for block in blocks:
            self.removed += 1
            if not self._copies[block]:  # stored before anybody listened
                continue
            self._copies[block] -= 1
            if not self._copies[block]:
                self._note(at, self._chains[block], there=False)


@dataclass(frozen=True)
class Misprediction:
    """One request that was predicted to find `predicted` cached tokens and found `found`."""

    prompt: Sequence[int]
    salt: str | None
    placed_at: float
    answered_at: float
    predicted: int
    found: int

    def cause(self, cache: ToldCache) -> str | None:
        """What the engine's own events say; None where it never held just what was found, from placement to answer."""
        held = cache.held(self.prompt, self.salt, self.placed_at, self.answered_at + LATEST_EVENT_S)
        if self.found not in held:
            return None
        if self.found > self.predicted:
            return "stored while it queued"
        return "evicted while it queued" if held[0] >= self.predicted else "predicted, and not computed in time"


@asynccontextmanager
async def listening(address: str, cache: ToldCache):
    """Takes every batch that is published in the block, by the engine's own time."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 0)
    socket.set(zmq.SUBSCRIBE, b"")
    socket.connect(address)
    task = asyncio.create_task(_listen(socket, cache))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        context.destroy(linger=0)


async def _listen(socket: zmq.asyncio.Socket, cache: ToldCache) -> None:
    while True:
        parts = await socket.recv_multipart()
        if int.from_bytes(parts[-2], "big") == 0:
            cache.clear(time.time())
        batch = decode(parts[-1])
        cache.take(batch.timestamp or time.time(), batch.events)

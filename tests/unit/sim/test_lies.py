"""A publisher that lies on request: its events no longer tell what the engine holds."""

import json

import msgspec
import pytest
from sim_engine import sim_engine


class Heard:
    """What one engine publishes."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.events: list[dict[str, object]] = []
        publisher = engine.drivers[0].publisher
        send = publisher.publish_raw

        def publish(batch: bytes) -> None:
            self.events += msgspec.msgpack.decode(batch)[1]
            send(batch)

        publisher.publish_raw = publish

    async def ask(self, first: int, count: int = 70) -> list[dict[str, object]]:
        """The events of one prompt of `count` ids."""
        self.events.clear()
        prompt = list(range(first, first + count))
        await self.engine.post("/v1/completions", {"model": "tiny", "prompt": prompt, "max_tokens": 1})
        return list(self.events)

    async def inflict(self, kind: str, **how: object) -> None:
        await self.engine.post("/sim/fault", {"kind": kind, **how})


@pytest.fixture
async def heard(tmp_path):
    config = {"enable_kv_cache_events": True, "endpoint": f"ipc://{tmp_path}/e", "topic": "t"}
    async with sim_engine("--kv-events-config", json.dumps(config), "--num-gpu-blocks-override", "8") as engine:
        yield Heard(engine)


def kinds(events) -> set[object]:
    return {event["type"] for event in events}


async def test_removals_are_lost_until_it_is_told_to_stop(heard):
    await heard.inflict("lose-removals")
    await heard.ask(0)
    assert kinds(await heard.ask(500)) == {"BlockStored"}
    await heard.inflict("lose-removals", on=False)
    assert kinds(await heard.ask(900)) == {"BlockStored", "BlockRemoved"}


async def test_other_tokens_are_told_than_were_sent(heard):
    await heard.inflict("wrong-tokens")
    (event,) = await heard.ask(10)
    assert event["token_ids"][:3] == [11, 12, 13]


async def test_a_silent_flush_shows_only_in_what_is_stored_again(heard):
    (before,) = await heard.ask(10)
    assert not await heard.ask(10, 69)
    await heard.inflict("flush-silently")
    (after,) = await heard.ask(10)
    assert after["block_hashes"] == before["block_hashes"]

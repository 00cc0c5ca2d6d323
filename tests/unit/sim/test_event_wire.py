"""What the simulator publishes, beside frames captured from vLLM 0.32.0."""

import json
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio
from eventually import eventually
from kvpool_sim.core.events import AllBlocksCleared, BlockRemoved, BlockStored
from kvpool_sim.publisher import Publisher, Publishing, payload
from kvpool_sim.settings import for_rank
from sim_engine import settings

FRAMES = json.loads((Path(__file__).parent / "frames_vllm_0_32_0.json").read_text())
EVENTS = {
    "BlockStored": BlockStored((1, 2**63), None, (1, 2, 3, 4), (None, None)),
    "BlockRemoved": BlockRemoved((2**63,)),
    "AllBlocksCleared": AllBlocksCleared(),
}


def captured(kind: str):
    batch = msgspec.msgpack.decode(bytes.fromhex(FRAMES["pub"][kind][2]))
    return batch, next(event for event in batch[1] if event["type"] == kind)


@pytest.mark.parametrize("kind", EVENTS)
def test_each_kind_of_event_has_the_keys_order_and_types_of_the_real_one(kind):
    theirs_batch, theirs = captured(kind)
    ours_batch = msgspec.msgpack.decode(payload(1.5, [EVENTS[kind]], 0, 2))
    ours = ours_batch[1][0]
    assert list(ours) == list(theirs)
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}
    assert list(map(type, ours_batch)) == list(map(type, theirs_batch))


@pytest.fixture
async def publisher(tmp_path):
    publishing = Publishing(f"ipc://{tmp_path}/e", f"ipc://{tmp_path}/r", "kv@pod@model", buffer_steps=3)
    found = Publisher(publishing, 1, 16)
    found.start()
    yield found
    await found.close()


@pytest.fixture
async def sockets():
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


async def subscribed(sockets, publisher):
    sub = sockets.socket(zmq.SUB)
    sub.subscribe(b"")
    sub.connect(publisher._publishing.endpoint)

    async def heard():
        publisher.publish(0.0, [])
        return await sub.poll(50)

    await eventually(heard)
    while await sub.poll(50):
        await sub.recv_multipart()
    return sub


async def replayed(sockets, publisher, start: int):
    dealer = sockets.socket(zmq.DEALER)
    dealer.connect(publisher._publishing.replay_endpoint)
    await dealer.send_multipart((b"", start.to_bytes(8, "big")))
    frames = []
    while not frames or frames[-1][2] != bytes.fromhex(FRAMES["replay_end"][2]):
        assert await dealer.poll(5000), "no answer"
        frames.append(await dealer.recv_multipart())
    return frames


async def test_a_batch_comes_as_topic_sequence_and_payload(publisher, sockets):
    sub = await subscribed(sockets, publisher)
    publisher.publish(2.5, [AllBlocksCleared()])
    topic, sequence, batch = await sub.recv_multipart()
    assert topic == b"kv@pod@model"
    assert len(sequence) == 8
    assert msgspec.msgpack.decode(batch) == [2.5, [{"type": "AllBlocksCleared"}], 1]


async def test_a_replay_has_the_frames_of_the_real_one_and_ends_as_it_does(publisher, sockets):
    for at in range(5):
        publisher.publish(float(at), [])
    *batches, end = await replayed(sockets, publisher, 0)
    assert [frame.hex() for frame in end] == FRAMES["replay_end"]
    assert [int.from_bytes(frame[2], "big") for frame in batches] == [2, 3, 4]
    assert all(frame[:2] == [b"", b"kv@pod@model"] for frame in batches)
    assert len(await replayed(sockets, publisher, 4)) == 2


async def test_a_lost_batch_is_still_there_to_be_replayed(publisher, sockets):
    sub = await subscribed(sockets, publisher)
    publisher.restart_sequence()
    publisher.dropping = 1
    publisher.publish(0.0, [])
    publisher.publish(1.0, [])
    frames = await sub.recv_multipart()
    assert int.from_bytes(frames[1], "big") == 1
    assert len(await replayed(sockets, publisher, 0)) == 3


async def test_a_hung_publisher_says_nothing_until_it_recovers(publisher, sockets):
    sub = await subscribed(sockets, publisher)
    publisher.hung = True
    publisher.publish(0.0, [])
    assert not await sub.poll(100)
    publisher.hung = False
    publisher.publish(1.0, [])
    assert await sub.poll(5000)


def test_the_rank_is_added_to_both_ports():
    config = '{"enable_kv_cache_events":true,"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5657","topic":"t"}'
    told = settings("--host", "127.9.9.9", "--kv-events-config", config).publishing
    assert told is not None
    assert for_rank(told, 2).endpoint == "tcp://127.9.9.9:5559"
    assert for_rank(told, 2).replay_endpoint == "tcp://127.9.9.9:5659"
    local = Publishing("ipc://x", None, "t")
    assert for_rank(local, 1) == local

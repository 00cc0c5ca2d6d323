"""A pool is changed, and its event plane disturbed, while clients stream."""

import asyncio
import json
import socket

import pytest
import pytest_asyncio
from event_publisher import EventPublisher, stored
from eventually import eventually
from kvpool_api.wire import EventState
from pool_here import pool_here
from up_process import MODEL, ids, manifest

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = {"timeoutSeconds": 30, "preStopSeconds": 0, "shutdownTimeoutSeconds": 5}


def version(number, replicas=2):
    """The manifest; another number changes every engine's template."""
    env = [{"name": "EXAMPLE_VERSION", "value": str(number)}]
    return manifest(replicas=replicas, engine={"env": env}, drain=QUICK, kvEvents={"syncTimeoutSeconds": 2})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    async with pool_here(tmp_path_factory.mktemp("changes"), version(1)) as found:
        yield found


async def settled(pool, replicas=2):
    workers = (await pool.state()).workers
    whole = [worker for worker in workers if worker.ready and worker.synced and not worker.draining]
    return len(whole) == len(workers) == replicas and await pool.is_ready()


async def streaming(pool, until, tokens=150):
    """Streams one after another in four lanes until the condition holds; what each of them said."""
    done, said = asyncio.Event(), []

    async def lane(number):
        count = 0
        while not done.is_set():
            count += 1
            said.append(await pool.stream(ids(number * 1000 + count, 64), tokens))

    async with asyncio.TaskGroup() as lanes:
        for number in range(4):
            lanes.create_task(lane(number))
        await eventually(until, within_s=60)
        done.set()
    return said


def broken(said):
    return [text for text in said if '"error"' in text or not text.endswith("data: [DONE]\n\n")]


async def test_a_rolling_change_replaces_every_engine_and_no_stream_is_lost(pool):
    before = await pool.engines()

    async def rolled():
        now = await pool.engines()
        return len(now) == 2 and not set(now) & set(before) and await settled(pool)

    await pool.apply(version(2))
    said = await streaming(pool, rolled)
    assert len(said) >= 4
    assert broken(said) == []


async def test_scaling_down_drains_the_engine_that_leaves_and_no_stream_is_lost(pool):
    async def smaller():
        return len(await pool.engines()) == 1 and await settled(pool, 1)

    await pool.apply(version(2, replicas=1))
    said = await streaming(pool, smaller)
    assert broken(said) == []


async def test_scaling_up_adds_an_engine_that_is_used(pool):
    async def larger():
        return await settled(pool, 2)

    await pool.apply(version(2, replicas=2))
    said = await streaming(pool, larger)
    assert broken(said) == []


async def test_a_paused_pool_serves_with_what_it_has_until_it_may_go_on(pool):
    before = await pool.engines()
    changed = version(3, replicas=1)
    changed["spec"]["paused"] = True

    async def why():
        (view,) = await pool.local.views()
        return view.why

    async def held():
        return (await why()).startswith("Paused: ")

    async def as_asked():
        return await why() == ""

    await pool.apply(changed)
    await eventually(held)
    assert await pool.engines() == before
    assert broken([await pool.stream(ids(9, 64), 4)]) == []
    await pool.apply(version(2))
    await eventually(as_asked)
    assert await pool.engines() == before


async def test_an_engine_that_slept_has_no_credit_for_what_it_forgot(pool):
    """vLLM sleeps on GPUs alone, so a simulated engine stands for it. A sleep is told with the next step."""
    (pod, *_) = await pool.engines()
    url = (await pool.worker(pod)).url

    async def post(path, **body):
        async with pool.http.post(f"{url}{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def exactly(blocks):
        found = await pool.worker(pod)
        return (found.events, found.blocks) == (EventState.EXACT, blocks)

    await post("/reset_prefix_cache")
    await post("/v1/completions", model=MODEL, prompt=ids(31, 640), max_tokens=1)
    await eventually(lambda: exactly(40))
    await post("/sleep?level=1")
    await post("/wake_up")
    await post("/v1/completions", model=MODEL, prompt=ids(32, 160), max_tokens=1)
    await eventually(lambda: exactly(10))


async def test_malformed_events_are_skipped_and_counted_and_the_rest_of_the_batch_is_kept(pool):
    (pod, *_) = await pool.engines()
    publisher = EventPublisher(topic=f"kv@{pod}@{MODEL}".encode())
    try:
        await pool.move_events(pod, json.dumps([{"events": publisher.events, "replay": publisher.replay}]))
        publisher.publish([stored(1)])
        await eventually(lambda: _blocks(pool, pod, 1))
        publisher.publish([{"type": "Unheard"}, stored(2), {"type": "BlockStored", "block_hashes": "no"}, stored(3)])
        await eventually(lambda: _blocks(pool, pod, 3))
        publisher.publish_payload(b"\xc1 no msgpack")  # it may have told of removals
        publisher.publish([stored(4)])
        await eventually(lambda: _blocks(pool, pod, 1))
        worker = await pool.worker(pod)
        assert (worker.events, worker.skipped_events >= 3) == (EventState.DEGRADED, True)
        assert broken([await pool.stream(ids(5, 64), 4)]) == []
    finally:
        publisher.close()


async def _blocks(pool, pod, count):
    return (await pool.worker(pod)).blocks == count


async def test_a_publisher_that_hangs_holds_up_no_traffic(pool):
    (*_, pod) = await pool.engines()
    with socket.create_server(("127.0.0.1", 0)) as mute, socket.create_server(("127.0.0.1", 0)) as deaf:
        events, replay = (f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in (mute, deaf))
        await pool.move_events(pod, json.dumps([{"events": events, "replay": replay}]))
        await eventually(lambda: _is_not_exact(pool, pod))
        said = await asyncio.gather(*(pool.stream(ids(700 + n, 64), 4) for n in range(12)))
        assert broken(said) == []
        assert (await pool.state()).ready


async def _is_not_exact(pool, pod):
    return (await pool.worker(pod)).events is not EventState.EXACT


async def test_blocked_event_ports_hold_up_no_traffic(pool):
    (pod, *_) = await pool.engines()
    await pool.move_events(pod, json.dumps([{"events": "tcp://127.0.0.1:9", "replay": "tcp://127.0.0.1:9"}]))
    await eventually(lambda: _is_not_exact(pool, pod))
    said = await asyncio.gather(*(pool.stream(ids(800 + n, 64), 4) for n in range(12)))
    assert broken(said) == []

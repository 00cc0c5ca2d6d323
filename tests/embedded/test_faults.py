"""What breaks, and what clients see of it."""

import asyncio
import os
import signal

import aiohttp
import pytest
import pytest_asyncio
from eventually import eventually
from up_process import environment, ids, manifest, ready, write

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("faults") / "pool.yaml", manifest(replicas=3))
    async with ready(file, "--no-live") as found:
        yield found


async def whole(pool):
    """All three engines are ready and followed exactly, the pool is Ready."""
    workers = [w for w in (await pool.state()).workers if w.ready and w.events == "EXACT" and not w.draining]
    return len(workers) == 3


def kill(pool, pod):
    pids = pool.up.pids_of(pod)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


async def holder(pool, prompt):
    """The engine that was given the prompt last, once the router has its events."""
    await pool.complete(prompt)
    newest = (await pool.decisions()).decisions[0]
    await eventually(lambda: _predicted_on(pool, newest.pod))
    return newest.pod


async def _predicted_on(pool, pod):
    return any(worker.pod == pod and worker.blocks for worker in (await pool.state()).workers)


async def test_a_killed_engine_gets_no_credit_one_second_later(pool):
    prompt = ids(1, 1600)
    pod = await holder(pool, prompt)
    kill(pool, pod)
    await asyncio.sleep(1.0)
    answer = await pool.complete(prompt)
    newest = (await pool.decisions()).decisions[0]
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == newest.predicted_cached_tokens == 0
    assert [c.cached_tokens for c in newest.candidates if c.pod == pod] in ([], [0])
    await eventually(lambda: whole(pool), within_s=40)


async def test_requests_before_the_first_byte_go_elsewhere_and_begun_streams_end_with_an_error_event(pool):
    begun = [asyncio.ensure_future(pool.stream(ids(100 + n, 64), 400)) for n in range(9)]
    await eventually(lambda: _running(pool, 9))
    busiest = max((await pool.state()).workers, key=lambda worker: worker.in_flight)
    late = [asyncio.ensure_future(pool.stream(ids(200 + n, 30_000), 2)) for n in range(9)]
    await eventually(lambda: _in_flight(pool, 12))
    kill(pool, busiest.pod)
    said = await asyncio.gather(*begun)
    broken = [text for text in said if '"error"' in text]
    assert len(broken) == busiest.in_flight
    assert all("[DONE]" in text for text in said if text not in broken)
    assert all('"error"' not in text for text in await asyncio.gather(*late))
    await eventually(lambda: whole(pool), within_s=40)


async def _running(pool, count):
    return sum(worker.running or 0 for worker in (await pool.state()).workers) >= count or await _in_flight(pool, count)


async def _in_flight(pool, count):
    return sum(worker.in_flight for worker in (await pool.state()).workers) >= count


async def test_a_killed_router_comes_back_with_the_map_rebuilt_by_replay(pool):
    prompt = ids(2, 1600)
    pod = await holder(pool, prompt)
    held = {worker.pod: worker.blocks for worker in (await pool.state()).workers}
    (router,) = {w for pid in pool.up.processes() for w in _router_hosts(pid)}
    kill(pool, router)
    await eventually(lambda: _answers(pool), within_s=40)
    await eventually(lambda: whole(pool), within_s=20)
    assert {worker.pod: worker.blocks for worker in (await pool.state()).workers} == held
    answer = await pool.complete(prompt)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 1584
    assert (await pool.decisions()).decisions[0].pod == pod


def _router_hosts(pid):
    return [v.removeprefix("HOSTNAME=") for v in environment(pid) if v.startswith("HOSTNAME=") and "router" in v]


async def _answers(pool):
    try:
        async with pool.http.get(f"{pool.url}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False

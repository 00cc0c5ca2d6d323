"""Engines that hang or die under load, and what clients see of it: nothing, where no byte had come."""

import asyncio
import os
import signal
import time

import pytest
import pytest_asyncio
from eventually import eventually
from up_process import MODEL, ids, manifest, ready, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOVED_WITHIN_S = 15
"""Two readings of the metrics, 5 s apart, each given 2 s to be answered; and some for a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("router-faults") / "pool.yaml", manifest(replicas=4))
    async with ready(file, "--no-live") as found:
        yield found


async def whole(pool):
    workers = [w for w in (await pool.state()).workers if w.ready and not w.draining and not w.circuit_open]
    return len(workers) == 4


def send(pool, pod, number):
    """A signal to every process of an engine."""
    pids = pool.up.pids_of(pod)
    assert pids
    for pid in pids:
        os.kill(pid, number)


async def outcome(pool, seed, *, tokens=4, stream=True):
    """Status and text of one completion with a prompt of its own."""
    body = {"model": MODEL, "prompt": ids(seed, 900), "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    async with pool.http.post(f"{pool.url}/v1/completions", json=body) as answer:
        return answer.status, await answer.text()


async def test_a_stopped_engine_holds_no_request_for_long_and_is_used_again_when_it_goes_on(pool):
    stopped = (await pool.state()).workers[0].pod
    send(pool, stopped, signal.SIGSTOP)
    try:
        held = [asyncio.ensure_future(outcome(pool, 1000 + n, stream=n % 2 == 0)) for n in range(16)]
        done, pending = await asyncio.wait(held, timeout=2)
        assert len(done) >= 8, "the other engines must go on"
        assert pending, "some must have gone to the stopped engine, or nothing is shown"
        began = time.monotonic()
        await asyncio.wait(pending, timeout=MOVED_WITHIN_S)
        assert time.monotonic() - began < MOVED_WITHIN_S
        assert {(status, '"error"' in text) for status, text in await asyncio.gather(*held)} == {(200, False)}
        began = time.monotonic()
        later = await asyncio.gather(*(outcome(pool, 2000 + n) for n in range(8)))
        assert all(status == 200 for status, _ in later)
        assert time.monotonic() - began < 5, "nothing new is sent to a silent engine"
        (worker,) = [w for w in (await pool.state()).workers if w.pod == stopped]
        assert worker.circuit_open
    finally:
        send(pool, stopped, signal.SIGCONT)
    await eventually(lambda: whole(pool), within_s=20)
    await eventually(lambda: _answers_again(pool, stopped), within_s=20)


async def _answers_again(pool, pod):
    await asyncio.gather(*(outcome(pool, time.monotonic_ns() % 100_000 + n) for n in range(8)))
    return any(each.pod == pod for each in (await pool.decisions()).decisions[:8])


async def test_two_of_four_engines_killed_under_load_fail_no_request_that_had_no_byte(pool):
    await eventually(lambda: whole(pool), within_s=40)
    doomed = [worker.pod for worker in (await pool.state()).workers[:2]]
    asked = []
    for number in range(120):
        if number == 40:
            for pod in doomed:
                send(pool, pod, signal.SIGKILL)
        asked.append(asyncio.ensure_future(outcome(pool, 5000 + number, tokens=24, stream=number % 3 > 0)))
        await asyncio.sleep(0.03)
    said = await asyncio.gather(*asked)
    assert {status for status, _ in said} == {200}
    broken = [text for _, text in said if '"error"' in text]
    assert all('"choices"' in text.split("data: ")[1] for text in broken), "only begun streams may break off"
    assert all('"code":502' in text and text.endswith("[DONE]\n\n") for text in broken)
    await eventually(lambda: whole(pool), within_s=40)

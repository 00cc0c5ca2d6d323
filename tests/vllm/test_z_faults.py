"""What breaks: the router, the way of the events, an engine. The last test ends the pool."""

import asyncio
import itertools
import os
import signal
from pathlib import Path

import pytest
from eventually import eventually
from ipc_relay import relayed
from kvpool_api.wire import EventState
from real_engines import MODEL, START_S, ids, mispredicted, text

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(START_S + 30)]


def routers(pool):
    return [pid for pid in pool.up.processes() if b"kvpool_router" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_events_that_are_cut_off_fail_no_request_and_the_map_is_exact_again_afterwards(pool):
    """By a relay, as a firewall does it: nothing passes, nothing is closed. Routers begin anew, so as to go through it.

    So they first learn by replay what the engines hold.
    """
    prompt = ids(61, 640)
    await pool.complete(prompt, model=MODEL)
    pod = (await pool.newest()).pod
    async with relayed(*itertools.chain.from_iterable(pool.addresses.values())) as relays:
        before = routers(pool)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not set(before) & set(routers(pool)), within_s=20)
        await eventually(pool.both_exact, within_s=60)
        await pool.complete(prompt, model=MODEL)
        replayed = await pool.newest()
        assert (replayed.pod, replayed.predicted_cached_tokens, replayed.cached_tokens) == (pod, 608, 608)

        for relay in relays:
            relay.block()
        seed = itertools.count(700)

        async def none_is_called_exact():
            await pool.complete(ids(next(seed), 64), model=MODEL)
            return all(each.events != EventState.EXACT and each.events_reason for each in await pool.workers())

        await eventually(none_is_called_exact, within_s=30)
        batch = [text(ids(800 + n % 4, 320)) for n in range(12)]
        await asyncio.gather(*(pool.send(path, body) for path, body in batch))

        for relay in relays:
            relay.unblock()
        await eventually(pool.both_exact, within_s=30)
        for path, body in batch:
            await pool.send(path, body)
        assert mispredicted(await pool.judged(batch)) == []


async def test_a_killed_engine_ends_whole_its_work_goes_elsewhere_and_it_comes_back_exact(pool):
    """Only the server process is killed: vLLM would leave the process behind it alive, which holds the weights."""
    prompt = ids(21, 640)
    await pool.complete(prompt, model=MODEL)
    pod = (await pool.newest()).pod
    await eventually(pool.caught_up)
    server, *rest = sorted(pool.up.pids_of(pod))
    assert rest
    os.kill(server, signal.SIGKILL)
    await eventually(lambda: not {server, *rest} & set(pool.up.processes()), within_s=10)

    await pool.complete(prompt, model=MODEL)
    elsewhere = await pool.newest()
    assert elsewhere.pod != pod
    assert elsewhere.predicted_cached_tokens == elsewhere.cached_tokens == 0

    await eventually(pool.both_exact, within_s=START_S)
    batch = [text(ids(400 + n, 320)) for n in range(16)]
    for _ in range(2):
        await asyncio.gather(*(pool.send(path, body) for path, body in batch))
        decisions = await pool.judged(batch)
    assert mispredicted(decisions) == []
    assert pod in {each.pod for each in decisions if each.cached_tokens}


async def test_ctrl_c_leaves_no_process(pool):
    assert len(pool.up.processes()) >= 7, "a router, and two engines of several processes each"
    assert await pool.up.end(signal.SIGINT, within_s=40) == 130
    assert pool.up.processes() == []
    assert "Traceback" not in pool.up.said()

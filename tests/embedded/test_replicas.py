"""Two routers of one pool: what one knows, the other knows, and a killed one comes back with it."""

import asyncio
import json
import os
import signal

import aiohttp
import pytest
import pytest_asyncio
from eventually import eventually
from kvpool_api.wire import Decisions, RouterState
from up_process import MODEL, ids, manifest, ready, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPTS = [ids(seed, 800) for seed in range(8)]
REUSABLE = 784
"""Tokens of a prompt's whole blocks but the last, which is computed anew."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("replicas") / "pool.yaml", manifest(router={"replicas": 2}))
    async with ready(file, "--no-live") as found:
        yield found


def routers(pool):
    """Pod -> its ports' URLs, as the pool's members are told."""
    (file,) = pool.up.folder.path.rglob("default.pool.json")
    pods = json.loads(file.read_text())["items"]
    return {
        pod["metadata"]["name"]: urls(pod) for pod in pods if pod["metadata"]["labels"]["kvpool.dev/role"] == "router"
    }


def urls(pod):
    ports = pod["spec"]["containers"][0]["ports"]
    return {port["name"]: f"http://{pod['status']['podIP']}:{port['containerPort']}" for port in ports}


async def told(pool, router, path):
    headers = {"X-Kvpool-Token": pool.up.folder.token_file.read_text()}
    async with pool.http.get(f"{routers(pool)[router]['admin']}{path}", headers=headers) as answer:
        return await answer.read() if answer.status == 200 else None


async def state(pool, router):
    try:
        answer = await told(pool, router, "/state")
    except aiohttp.ClientError:
        return None
    return None if answer is None else RouterState.model_validate_json(answer)


async def hears(pool, router):
    found = await state(pool, router)
    return found is not None and found.ready and [each.heard for each in found.siblings] == [True]


async def at_door(pool):
    """The router that has the pool's door; None where nobody answers there."""
    try:
        return (await pool.state()).router
    except aiohttp.ClientError:
        return None


async def stands_at_door(pool, router):
    return await at_door(pool) == router


async def asked(pool, router, prompt):
    """Status, or None where nobody answers."""
    return await answered(pool, routers(pool)[router]["http"], prompt)


async def answered(pool, url, prompt):
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 2, "ignore_eos": True}
    try:
        async with pool.http.post(f"{url}/v1/completions", json=body) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return None


async def test_two_routers_of_a_pool_hear_each_other_and_share_one_door(pool):
    assert len(routers(pool)) == 2
    for router in routers(pool):
        await eventually(lambda router=router: hears(pool, router), within_s=20)
    assert await at_door(pool) in routers(pool)


async def test_a_router_that_is_killed_under_load_places_no_request_by_an_empty_map(pool):
    at = await at_door(pool)
    killed, other = sorted(routers(pool), key=lambda router: router == at)
    for prompt in PROMPTS:
        assert await asked(pool, other, prompt) == 200
    before = (await state(pool, killed)).map_origin
    ended = asyncio.Event()
    load = [asyncio.create_task(ask_until(ended, pool, router)) for router in (killed, other)]
    for pid in pool.up.pids_of(killed):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: is_another(pool, killed, before), within_s=40)
    await eventually(lambda: some_placed(pool, killed), within_s=20)
    ended.set()
    of_killed, of_other = await asyncio.gather(*load)
    assert of_other == {200}
    assert of_killed <= {200, 503, None}
    assert (await state(pool, killed)).map_origin.startswith(f"Began with the map of {other}: 2 workers")
    decisions = Decisions.model_validate_json(await told(pool, killed, "/decisions?limit=1000")).decisions
    assert {each.predicted_cached_tokens for each in decisions if each.pod is not None} == {REUSABLE}


async def test_when_the_router_at_the_door_is_killed_the_other_one_answers_there(pool):
    for router in routers(pool):
        await eventually(lambda router=router: hears(pool, router), within_s=20)
    killed = await at_door(pool)
    (other,) = set(routers(pool)) - {killed}
    before = (await state(pool, killed)).map_origin
    for pid in pool.up.pids_of(killed):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: stands_at_door(pool, other), within_s=5)
    assert await answered(pool, pool.url, PROMPTS[0]) == 200
    await eventually(lambda: is_another(pool, killed, before), within_s=40)
    assert await at_door(pool) == other


async def ask_until(ended, pool, router):
    statuses = set()
    while not ended.is_set():
        for prompt in PROMPTS:
            statuses.add(await asked(pool, router, prompt))
            await asyncio.sleep(0.01)
    return statuses


async def is_another(pool, router, before):
    """The router answers again, as another process."""
    found = await state(pool, router)
    return found is not None and found.ready and found.map_origin != before


async def some_placed(pool, router):
    return len(Decisions.model_validate_json(await told(pool, router, "/decisions")).decisions) > 20

"""What the router says of real vLLM's caches is what the engines find in them, whatever empties these."""

import asyncio
import itertools
import time
from datetime import datetime

import pytest
from eventually import eventually
from mixed_requests import Mixture
from real_engines import (
    ADAPTER,
    BLOCK,
    CACHE_BLOCKS,
    CHAT,
    MESSAGES,
    MODEL,
    RESPONSES,
    RULES,
    START_S,
    TEXT,
    TURNS,
    cached_of,
    chat,
    fillers,
    ids,
    mispredicted,
    text,
)
from told_cache import Misprediction

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(START_S + 30)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": TURNS[:2], "max_tokens": 4}),
        (TEXT, {"prompt": "A prompt as text. " * 60, "max_tokens": 4}),
        (TEXT, {"prompt": ids(11, 640), "max_tokens": 4}),
        (RESPONSES, {"instructions": f"Responses. {RULES}", "input": "Hello", "max_output_tokens": 4}),
        (MESSAGES, {"system": f"Messages. {RULES}", **chat("Hello")}),
    ],
)
async def test_a_repeated_prompt_goes_to_the_engine_that_holds_it_and_comes_from_its_cache(pool, path, body):
    _, first = await pool.post(path, {"model": MODEL, **body})
    before = await pool.newest()
    await eventually(pool.caught_up)
    _, second = await pool.post(path, {"model": MODEL, **body})
    after = await pool.newest()
    assert cached_of(first) == 0
    assert after.pod == before.pod
    assert cached_of(second) == after.cached_tokens == after.predicted_cached_tokens
    assert after.cached_tokens == (after.prompt_tokens - 1) // BLOCK * BLOCK > 0


def mixed_batch():
    """Requests of all four APIs, in groups that share a beginning, streams among them, some of them repeated."""
    systems = [f"Tenant {number}. {RULES}" for number in range(3)]
    shared = [ids(100 + number, 480) for number in range(3)]
    once = [
        *((CHAT, {"messages": [{"role": "system", "content": s}, *TURNS[1:]], "max_tokens": 3}) for s in systems),
        *((CHAT, {"messages": [{"role": "system", "content": s}, TURNS[1]], "max_tokens": 3}) for s in systems),
        *((MESSAGES, {"system": s, **chat("Which engine?")}) for s in systems),
        *((RESPONSES, {"instructions": s, "input": "Why that one?", "max_output_tokens": 3}) for s in systems),
        *((TEXT, {"prompt": s + "and so", "max_tokens": 3}) for s in systems),
        *((TEXT, {"prompt": [*p, *ids(200 + n, 90)], "max_tokens": 3}) for n, p in enumerate(shared * 3)),
    ]
    return [(path, {"model": MODEL, "stream": bool(n % 3 == 0), **body}) for n, (path, body) in enumerate(once * 2)]


async def test_what_the_router_predicts_is_what_the_engines_find_in_their_caches(pool):
    batch = mixed_batch()
    for path, body in batch:
        await pool.send(path, body)
    decisions = await pool.judged(batch)
    assert mispredicted(decisions) == []
    assert sum(each.cached_tokens for each in decisions) > 0.6 * sum(each.prompt_tokens for each in decisions)


async def test_requests_at_the_same_time_spread_and_are_predicted_too(pool):
    """Those with a new prefix in common find what the first of them computes in the very same step of the engine."""
    batch = [text([*ids(300 + n % 6, 320), *ids(n, 64)]) for n in range(24)]
    await asyncio.gather(*(pool.send(path, body) for path, body in batch))
    decisions = await pool.judged(batch)
    assert mispredicted(decisions) == []
    assert len({each.pod for each in decisions}) == 2


async def test_each_misprediction_among_mixed_requests_at_the_same_time_is_a_change_of_the_cache_meanwhile(pool):
    """Caches overflow all the time; an ear of the test's own at each engine tells what came and went."""
    asks = list(itertools.islice(Mixture(MODEL, seed=5, words=60), 80))
    answered = {}

    async def client():
        while asks:
            ask = asks.pop()
            async with pool.http.post(f"{pool.url}{ask.path}", json=ask.body) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
                answered[answer.headers["x-request-id"]] = (ask, time.time())

    removed = sum(each.removed for each in pool.caches.values())
    await asyncio.gather(*(client() for _ in range(6)))
    await eventually(pool.caught_up)
    mistaken = [each for each in mispredicted((await pool.decisions()).decisions) if each.request_id in answered]
    assert [each.request_id for each in mistaken if not await cause(pool, each, *answered[each.request_id])] == []
    assert sum(each.removed for each in pool.caches.values()) > removed


async def cause(pool, decision, ask, answered_at):
    url = (await pool.worker(decision.pod)).url
    status, rendered = await pool.ask_engine(url, f"{ask.path}/render", ask.body)
    assert status == 200, rendered
    prompt = (rendered[0] if isinstance(rendered, list) else rendered)["token_ids"]
    placed_at = datetime.fromisoformat(decision.time).timestamp()
    times = (placed_at, answered_at, decision.predicted_cached_tokens, decision.cached_tokens)
    return Misprediction(prompt, ask.body.get("cache_salt"), *times).cause(pool.caches[decision.pod])


async def held_by(pool, prompt):
    """The pod to which the prompt goes, and what the router credited it with there: by events, then in all."""
    await pool.complete(prompt, model=MODEL)
    newest = await pool.newest()
    assert newest.predicted_cached_tokens == newest.cached_tokens
    return newest.pod, newest.cached_tokens


async def test_blocks_that_an_engine_has_evicted_give_no_credit(pool):
    prompt = ids(31, 640)
    pod, _ = await held_by(pool, prompt)
    await eventually(pool.caught_up)
    assert await held_by(pool, prompt) == (pod, 608)
    url = (await pool.worker(pod)).url
    for filler in fillers(BLOCK * CACHE_BLOCKS, seed=1000):
        await pool.ask_engine(url, TEXT, {"model": MODEL, "prompt": filler, "max_tokens": 1})
    await eventually(pool.caught_up)
    assert (await held_by(pool, prompt))[1] == 0


async def test_a_cache_that_is_reset_gives_no_credit_and_what_it_takes_in_afterwards_does(pool):
    """vLLM tells of a reset in the next step that it computes; until then nobody outside can know."""
    prompt = ids(41, 640)
    pod, _ = await held_by(pool, prompt)
    url = (await pool.worker(pod)).url
    assert (await pool.ask_engine(url, "/reset_prefix_cache", None))[0] == 200
    await pool.ask_engine(url, TEXT, {"model": MODEL, "prompt": ids(42, 8), "max_tokens": 2})
    await eventually(pool.caught_up)
    assert (await pool.worker(pod)).blocks == 0
    assert (await held_by(pool, prompt))[1] == 0
    await eventually(pool.caught_up)
    assert (await held_by(pool, prompt))[1] == 608
    assert await pool.both_exact()


async def test_a_prompt_under_another_salt_shares_nothing(pool):
    body = {"model": MODEL, "prompt": ids(51, 640), "max_tokens": 2}
    found = []
    for salt in ("a", "a", "b", None, "b"):
        _, answer = await pool.post(TEXT, body | ({"cache_salt": salt} if salt else {}))
        await eventually(pool.caught_up)
        newest = await pool.newest()
        assert newest.predicted_cached_tokens == cached_of(answer)
        found.append(cached_of(answer))
    assert found == [0, 608, 0, 0, 608]


async def test_what_an_adapter_has_cached_is_credited_to_requests_for_that_adapter_alone(pool):
    prompt = ids(71, 640)
    found = []
    for model in (ADAPTER, ADAPTER, MODEL, MODEL, ADAPTER):
        answer = await pool.complete(prompt, model=model)
        await eventually(pool.caught_up)
        newest = await pool.newest()
        assert newest.predicted_cached_tokens == newest.cached_tokens == cached_of(answer)
        found.append(newest.cached_tokens)
    assert found == [0, 608, 0, 608, 608]
    assert await pool.both_exact()

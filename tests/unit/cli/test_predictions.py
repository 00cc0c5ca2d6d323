import asyncio

import pytest
from aiohttp import web
from kvpool_api.spec import Strategy
from kvpool_api.wire import Decision, Decisions
from kvpool_cli.bench.predictions import READ_EVERY, AdminAccess, DecisionReader
from kvpool_cli.errors import UserError


def decision(request_id, predicted, cached, prompt=100):
    return Decision(
        request_id=request_id,
        time="2026-01-01T00:00:00Z",
        path="/v1/completions",
        strategy=Strategy.CACHE_AWARE,
        prompt_tokens=prompt,
        pod="p",
        dp_rank=0,
        reason="",
        candidates=[],
        predicted_cached_tokens=predicted,
        cached_tokens=cached,
        ttft_ms=None,
        attempts=1,
        outcome="ok",
    )


def reader(url="http://127.0.0.1:1"):
    return DecisionReader(AdminAccess(url, "secret", 16), "bench-1")


def test_predictions_are_compared_in_whole_blocks():
    gathered = reader()
    gathered.take([decision("bench-1-0", 32, 47), decision("bench-1-1", 32, 48)])
    predictions = gathered.predictions()
    assert predictions.equal_percent == 50
    assert predictions.hit_percent == 32


def test_only_ended_requests_of_this_run_count_and_each_once():
    gathered = reader()
    gathered.take([decision("bench-2-0", 0, 0), decision("bench-1-0", 0, None), decision("bench-1-1", None, 0)])
    assert gathered.predictions() is None
    gathered.take(2 * [decision("bench-1-0", 16, 16)])
    assert gathered.predictions().requests == 1


async def read_from(handler, sent=lambda: 0, until=lambda gathered: True):
    app = web.Application()
    app.router.add_get("/decisions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gathered, done = reader(f"http://127.0.0.1:{runner.addresses[0][1]}"), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        tasks.create_task(gathered.follow(sent, done))
        while not until(gathered):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
        done.set()
    await runner.cleanup()
    return gathered


async def test_decisions_are_read_with_the_token_during_and_after_the_run():
    tokens = []

    async def answer(request):
        tokens.append(request.headers["X-Kvpool-Token"])
        found = Decisions(router="r", decisions=[decision(f"bench-1-{len(tokens)}", 16, 16)])
        return web.json_response(text=found.model_dump_json(by_alias=True))

    gathered = await read_from(answer, sent=lambda: READ_EVERY, until=lambda g: g.seen)
    assert list(gathered.seen) == ["bench-1-1", "bench-1-2"]
    assert set(tokens) == {"secret"}


async def test_an_admin_endpoint_that_refuses_leaves_the_predictions_unknown_with_the_reason():
    async def refuse(_):
        return web.Response(status=401)

    gathered = await read_from(refuse)
    assert gathered.predictions() is None
    assert "401" in gathered.trouble


def test_a_token_file_that_cannot_be_read_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="--admin-token-file"):
        AdminAccess.from_file("http://127.0.0.1:1", tmp_path / "none", 16)

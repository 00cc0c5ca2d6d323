"""Asking a router over HTTP."""

import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from kvpool_operator.routers import HttpRouterAdmin, RouterSilent, TokenRefused
from pool_world import router_state, worker_state

HOST = "127.0.0.1"


@asynccontextmanager
async def answering(answer):
    """(admin, port) of a router that answers so."""
    app = web.Application()
    app.router.add_get("/state", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        async with aiohttp.ClientSession() as session:
            yield HttpRouterAdmin(session, 0.5), runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_the_state_is_asked_with_the_token():
    state = router_state([worker_state("p")])

    async def answer(request):
        right = request.headers["X-Kvpool-Token"] == "token"
        return web.Response(text=state.model_dump_json(by_alias=True) if right else "{}")

    async with answering(answer) as (admin, port):
        assert await admin.state(HOST, port, "token") == state


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(401, "", "it answered 401"), (200, "{}", "its answer is not understood"), (200, "<html>", "is not understood")],
)
async def test_an_answer_that_is_none_counts_as_silence_and_says_why(status, body, words):
    async def answer(request):
        return web.Response(status=status, text=body)

    async with answering(answer) as (admin, port):
        with pytest.raises(RouterSilent, match=words):
            await admin.state(HOST, port, "token")


async def test_a_token_that_is_not_taken_is_told_from_any_other_silence():
    async def answer(request):
        return web.Response(status=401)

    async with answering(answer) as (admin, port):
        with pytest.raises(TokenRefused):
            await admin.state(HOST, port, "token")


async def test_one_that_hangs_up_counts_as_silence():
    async def answer(request):
        request.transport.abort()

    async with answering(answer) as (admin, port):
        with pytest.raises(RouterSilent, match=f"^no connection to {HOST}:{port}: "):
            await admin.state(HOST, port, "token")


async def test_nobody_there_counts_as_silence():
    with socket.socket() as held:
        held.bind((HOST, 0))
        async with aiohttp.ClientSession() as session:
            with pytest.raises(RouterSilent, match=rf"^no connection to {HOST}:\d+: Connection refused$"):
                await HttpRouterAdmin(session, 1.0).state(HOST, held.getsockname()[1], "token")

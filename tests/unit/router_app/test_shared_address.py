"""Routers that share an address: one answers there, and another as soon as it is gone."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from eventually import eventually
from kvpool_router.serve import Server, listen
from kvpool_router.settings import Address
from kvpool_router.shared_address import stand_at

LOOPBACK = Address("127.0.0.1", 0)


class Named:
    """Answers with its name; to /slow only once its gate is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["path"] == "/slow":
            self.entered.set()
            await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.name.encode()})


class Standing:
    """A router's two servers, which want the shared addresses."""

    def __init__(self, name: str, shared: tuple[Address, Address]) -> None:
        self.http, self.admin = Named(name), Named(f"{name}'s admin")
        self.servers = Server(self.http, 5), Server(self.admin, 5)
        self.task = asyncio.create_task(stand_at(shared, *self.servers))
        sockets = [listen(LOOPBACK, "http"), listen(LOOPBACK, "admin")]
        self.serving = [
            asyncio.create_task(server.serve([listener]))
            for server, listener in zip(self.servers, sockets, strict=True)
        ]

    async def step_aside(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def leave(self) -> None:
        await self.step_aside()
        for server in self.servers:
            server.should_exit = True
        await asyncio.gather(*self.serving, return_exceptions=True)


@pytest.fixture
def shared():
    with listen(LOOPBACK, "http") as http, listen(LOOPBACK, "admin") as admin:
        return Address(*http.getsockname()), Address(*admin.getsockname())


@asynccontextmanager
async def two_routers(shared):
    first = Standing("first", shared)
    await eventually(lambda: answers(shared, ["first", "first's admin"]))
    second = Standing("second", shared)
    try:
        yield first, second
    finally:
        await first.leave()
        await second.leave()


async def answers(shared, expected):
    return [await said(address) for address in shared] == expected


async def said(address, path="/"):
    """None where nobody listens."""
    async with aiohttp.ClientSession() as client:
        try:
            async with client.get(f"http://{address.host}:{address.port}{path}") as answer:
                return await answer.text()
        except aiohttp.ClientError:
            return None


async def test_another_router_takes_both_addresses_when_the_first_leaves(shared):
    async with two_routers(shared) as (first, _):
        assert await said(shared[0]) == "first"
        await first.leave()
        await eventually(lambda: answers(shared, ["second", "second's admin"]))


async def test_what_came_by_the_shared_address_is_served_to_its_end_while_another_router_answers_there(shared):
    async with two_routers(shared) as (first, _):
        slow = asyncio.create_task(said(shared[0], "/slow"))
        await first.http.entered.wait()
        await first.step_aside()
        leaving = asyncio.create_task(first.leave())
        await eventually(lambda: answers(shared, ["second", "second's admin"]))
        assert not leaving.done()
        first.http.gate.set()
        assert await slow == "first"
        await leaving


async def test_a_router_without_a_shared_address_stands_nowhere():
    await stand_at(None, Server(Named("a"), 1), Server(Named("b"), 1))

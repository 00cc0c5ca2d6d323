"""A simulated engine in this process: on a real socket, with real ZeroMQ, at many times the modelled speed."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import uvicorn
from kvpool_sim.driver import Driver
from kvpool_sim.process import build_drivers, only_http
from kvpool_sim.server import EngineServer
from kvpool_sim.settings import Settings, parse
from kvpool_sim.vocabulary import Vocabulary

VOCABULARY = Vocabulary()
ALL_FLAGS = ("--enable-prompt-tokens-details", "--enable-force-include-usage", "--enable-scale-out")


def settings(*argv: str) -> Settings:
    return parse(["meta-llama/Llama-3.1-8B-Instruct", "--served-model-name", "tiny", *argv], {})[0]


@dataclass
class SimEngine:
    """The running engine and a client of it."""

    url: str
    http: aiohttp.ClientSession
    drivers: Sequence[Driver]

    async def post(self, path: str, body, status: int = 200, **headers: str):
        async with self.http.post(self.url + path, json=body, headers=headers) as answer:
            assert answer.status == status, (answer.status, await answer.text())
            return await answer.json(content_type=None)

    async def get(self, path: str):
        async with self.http.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json(content_type=None)

    async def stream(self, path: str, body) -> str:
        async with self.http.post(self.url + path, json={**body, "stream": True}) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.read()).decode()


@asynccontextmanager
async def sim_engine(*argv: str, speed: str = "1000") -> AsyncIterator[SimEngine]:
    told = settings("--sim-speed", speed, *argv)
    drivers = build_drivers(told, VOCABULARY)
    for driver in drivers:
        if driver.publisher is not None:
            driver.publisher.start()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    config = uvicorn.Config(
        only_http(EngineServer(told, drivers, VOCABULARY)), lifespan="off", log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    tasks = [asyncio.create_task(driver.run()) for driver in drivers]
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with aiohttp.ClientSession() as http:
            yield SimEngine(f"http://127.0.0.1:{listening.getsockname()[1]}", http, drivers)
    finally:
        server.should_exit = True
        await serving
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for driver in drivers:
            if driver.publisher is not None:
                await driver.publisher.close()

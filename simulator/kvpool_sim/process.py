"""One engine as a process: bind, serve, and end when told to."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn
import zmq

from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.engine import EngineCore
from kvpool_sim.driver import Driver
from kvpool_sim.http import Receive, Scope, Send, respond
from kvpool_sim.publisher import Publisher
from kvpool_sim.server import EngineServer
from kvpool_sim.settings import Settings, SettingsError, for_rank
from kvpool_sim.vocabulary import Vocabulary

_BACKLOG = 2048
_KEEP_ALIVE_S = 60


def build_drivers(settings: Settings, vocabulary: Vocabulary) -> list[Driver]:
    """One engine core with its publisher a DP rank; nothing is bound yet."""
    return [_driver(settings, vocabulary, rank) for rank in range(settings.data_parallel_size)]


def _driver(settings: Settings, vocabulary: Vocabulary, rank: int) -> Driver:
    pool = BlockPool(settings.blocks, settings.block_size)
    core = EngineCore(settings.timing, pool, settings.limits, vocabulary.next_token)
    told = settings.publishing
    publisher = Publisher(for_rank(told, rank), rank, settings.block_size) if told else None
    return Driver(core, publisher, settings.speed)


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then lets requests end for the shutdown timeout.

    Raises SettingsError: an address is taken.
    """
    await asyncio.sleep(settings.start_delay_s)
    vocabulary = Vocabulary()
    drivers = build_drivers(settings, vocabulary)
    async with contextlib.AsyncExitStack() as ending:
        listening = ending.enter_context(contextlib.closing(_bound(settings)))
        for driver in drivers:
            await _start(driver, settings, ending)
        await _http(settings, EngineServer(settings, drivers, vocabulary)).serve(sockets=[listening])


async def _start(driver: Driver, settings: Settings, ending: contextlib.AsyncExitStack) -> None:
    if driver.publisher is not None:
        try:
            driver.publisher.start()
        except zmq.ZMQError as error:
            raise SettingsError(f"the KV event endpoints on {settings.host} cannot be bound: {error}") from error
        ending.push_async_callback(driver.publisher.close)
    stepping = asyncio.create_task(driver.run())
    ending.push_async_callback(_ended, stepping)


async def _ended(stepping: asyncio.Task[None]) -> None:
    stepping.cancel()
    await asyncio.gather(stepping, return_exceptions=True)


def _http(settings: Settings, server: EngineServer) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            only_http(server),
            lifespan="off",
            access_log=False,
            log_level="warning",
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
            server_header=False,
        )
    )


def only_http(server: EngineServer) -> Callable[[Scope, Receive, Send], object]:
    """Answers nothing but HTTP."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await server(scope, receive, send)
        else:
            await respond(send, 404, b"")

    return app


def _bound(settings: Settings) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise SettingsError(f"{settings.host}:{settings.port} cannot be bound: {error.strerror}") from error
    return listening

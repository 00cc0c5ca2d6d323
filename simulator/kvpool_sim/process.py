"""One engine as a process: bind, serve, and end when told to."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
import zmq

from kvpool_sim.arguments import SettingsError
from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.cpu_tier import CpuTier
from kvpool_sim.core.engine import EngineCore
from kvpool_sim.driver import Driver
from kvpool_sim.http import Receive, Scope, Send, respond
from kvpool_sim.publisher import Publisher
from kvpool_sim.server import EngineServer
from kvpool_sim.settings import Settings, for_rank
from kvpool_sim.vocabulary import Vocabulary

_BACKLOG = 2048
_KEEP_ALIVE_S = 60
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AddressRefused(SettingsError):
    """The address to listen on is in use, or not this machine's."""


def build_drivers(settings: Settings, vocabulary: Vocabulary) -> list[Driver]:
    """One engine core with its publisher a DP rank; nothing is bound yet."""
    return [_driver(settings, vocabulary, rank) for rank in range(settings.data_parallel_size)]


def _driver(settings: Settings, vocabulary: Vocabulary, rank: int) -> Driver:
    pool = BlockPool(settings.blocks, settings.block_size)
    below = CpuTier(settings.offloaded_blocks)
    core = EngineCore(settings.timing, pool, settings.limits, vocabulary.next_token, below)
    told = settings.publishing
    publisher = Publisher(for_rank(told, rank), rank, settings.block_size) if told else None
    return Driver(core, publisher, settings.speed)


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then takes no more connections and lets requests end for the shutdown timeout.

    Raises AddressRefused.
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
            endpoints = f"the KV event endpoints on {settings.host}"
            mend = "stop what uses them, or name others in --kv-events-config"
            raise AddressRefused(f"{endpoints} cannot be bound: {error}; {mend}") from error
        ending.push_async_callback(driver.publisher.close)
    stepping = asyncio.create_task(driver.run())
    ending.push_async_callback(_ended, stepping)


async def _ended(stepping: asyncio.Task[None]) -> None:
    stepping.cancel()
    await asyncio.gather(stepping, return_exceptions=True)


class _Server(uvicorn.Server):
    """Ends when told to, with exit code 0: uvicorn would raise the signal once more, and die of it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for name in _SIGNALS:
            loop.add_signal_handler(name, self.handle_exit, name, None)
        try:
            yield
        finally:
            for name in _SIGNALS:
                loop.remove_signal_handler(name)


def _http(settings: Settings, server: EngineServer) -> uvicorn.Server:
    return _Server(
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
        mend = "stop what uses it, or choose another --host or --port"
        raise AddressRefused(f"{settings.host}:{settings.port} cannot be bound: {error.strerror}; {mend}") from error
    return listening

"""Two ports in one event loop, from listening sockets to an orderly end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from kvpool_router.settings import Address, SettingsError
from kvpool_router.tasks import stop

BACKLOG = 2048
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def listen(address: Address, purpose: str) -> socket.socket:
    """A listening socket. Raises SettingsError: the port is in use, or the address is not this machine's."""
    try:
        return open_listener(address)
    except OSError as error:
        raise SettingsError(
            f"{purpose} port {address.host}:{address.port} cannot be opened ({error.strerror});"
            f" stop what uses it, or set KVPOOL_{purpose.upper()}_PORT to a free one."
        ) from error


def open_listener(address: Address) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(tuple(address), family=family, backlog=BACKLOG)


class Server(uvicorn.Server):
    """Leaves signals alone: two servers share this process, and who runs them ends them."""

    def __init__(self, app: Any, shutdown_s: float) -> None:  # noqa: ANN401 - frameworks type ASGI differently
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=round(shutdown_s),
            )
        )

    async def listen_too(self, listener: socket.socket) -> asyncio.Server:
        """Connections that come there are served, and ended, as those of the socket that it serves."""

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self._protocol(config=self.config, server_state=self.server_state, app_state={})
            return made

        return await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG)

    @property
    def _protocol(self) -> Any:  # noqa: ANN401 - uvicorn types it as any protocol, which takes no arguments
        if not self.config.loaded:
            self.config.load()
        return self.config.http_protocol_class

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_until_told(
    http: Server,
    admin: Server,
    sockets: tuple[socket.socket, socket.socket],
    stopping: Callable[[], None],
    vital: asyncio.Task[None],
) -> None:
    """Serves both until SIGTERM or SIGINT: then no new connections, streams end or reach their deadline, admin last.

    Admin stays up meanwhile, so that the operator still sees what is in flight. A second signal ends at once. If the
    `vital` task ends, so does serving, and its error is raised: a process begun anew is better than one that limps on.
    """
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            http.force_exit = admin.force_exit = True
        stopping()
        told.set()

    loop = asyncio.get_running_loop()
    for name in SIGNALS:
        loop.add_signal_handler(name, on_signal)
    serving = asyncio.create_task(http.serve([sockets[0]]), name="http")
    administering = asyncio.create_task(admin.serve([sockets[1]]), name="admin")
    signalled = asyncio.create_task(_wait(told), name="signal")
    try:
        await asyncio.wait((serving, administering, signalled, vital), return_when=asyncio.FIRST_COMPLETED)
        for server, task in ((http, serving), (admin, administering)):
            server.should_exit = True
            await task
        if vital.done():
            vital.result()
    finally:
        await stop(serving, administering, signalled)
        for name in SIGNALS:
            loop.remove_signal_handler(name)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()

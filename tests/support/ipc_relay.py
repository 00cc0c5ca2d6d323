"""Stands between an engine's event sockets in the file system and whoever connects to them, and can block the way."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

CHUNK = 1 << 16


class IpcRelay:
    """In the place of a Unix socket; those who were connected before stay connected to the real one.

    While it is blocked, nothing passes and nothing is closed, as where a firewall drops packets; new connections are
    taken by the kernel and hear nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._real = path.with_name(f"{path.name}-")
        self._way = asyncio.Event()
        self._way.set()
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        return len(self._passing)

    async def begin(self) -> None:
        os.rename(self._path, self._real)
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    def block(self) -> None:
        self._way.clear()

    def unblock(self) -> None:
        self._way.set()

    async def end(self) -> None:
        """Whoever is connected is cut off; the real socket is in its place again."""
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        if self._real.exists():
            os.replace(self._real, self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            await self._way.wait()
            theirs, ours = await asyncio.open_unix_connection(self._real)
            try:
                await self._both_ways((reader, ours), (theirs, writer))
            finally:
                ours.close()
        except (OSError, asyncio.CancelledError):  # asyncio would tell of a cancelled one as of an error
            pass
        finally:
            self._passing.discard(task)
            writer.close()

    async def _both_ways(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        tasks = [asyncio.ensure_future(self._pass(*way)) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._way.wait()
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def relayed(*addresses: str):
    """Relays at these `ipc://` addresses."""
    relays = [IpcRelay(Path(address.removeprefix("ipc://"))) for address in addresses]
    begun: list[IpcRelay] = []
    try:
        for relay in relays:
            await relay.begin()
            begun.append(relay)
        yield relays
    finally:
        for relay in begun:
            await relay.end()

"""An address that the routers of a pool share where no Service stands before them: whoever has it answers there."""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack

from kvpool_router.serve import Server, open_listener
from kvpool_router.settings import Address

LOG = logging.getLogger(__name__)
LOOK_S = 0.01
"""How long nobody answers after a router was killed."""


async def stand_at(shared: tuple[Address, Address] | None, http: Server, admin: Server) -> None:
    """Waits until no other router listens there, then does so until cancelled; returns if there is no such address.

    The kernel frees the addresses of a killed process at once. Admin follows http, so that both are the same router's.
    """
    if shared is None:
        return
    async with AsyncExitStack() as stack:
        for server, address in zip((http, admin), shared, strict=True):
            listener = stack.enter_context(await _taken(address))
            stack.callback((await server.listen_too(listener)).close)
        LOG.info("This router has the pool's address %s:%d now.", *shared[0])
        await asyncio.Event().wait()


async def _taken(address: Address) -> socket.socket:
    while True:
        try:
            return open_listener(address)
        except OSError:
            await asyncio.sleep(LOOK_S)

"""A port of a Pod on this machine, as `kubectl port-forward` makes one.

Not through the API server's proxy (`pods/POD:PORT/proxy`), though reading by it asks for fewer rights: the proxy comes
to the Pod from outside, and the pool's NetworkPolicy lets only the operator and sibling routers to the admin port. A
forward enters through the kubelet, on the Pod's own loopback, where no policy or firewall stands in its way.
"""

import asyncio
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.stream import WsApiClient
from kvpool_operator.cluster.kube import paths
from kvpool_operator.cluster.kube.calls import Calls, Request
from kvpool_operator.cluster.kube.pace import Pace
from kvpool_operator.cluster.seam import ClusterError, Ref, Unavailable
from kvpool_router.tasks import stop

BYTES = b"\x00"
WORDS = b"\x01"
"""Channels of the one port: what goes through it, and why it cannot be reached."""
CONNECT_S = 10.0
CLOSE_S = 5.0
LOOK_S = 0.005


@dataclass(slots=True)
class Forward:
    """`trouble` says why the last connection through it failed, if one did."""

    url: str = ""
    trouble: ClusterError | None = None


@asynccontextmanager
async def forwarded(api: ApiClient, pod: Ref, port: int) -> AsyncIterator[Forward]:
    """Listens on a free port of 127.0.0.1 meanwhile; each connection is a websocket through the API server."""
    forward = Forward()
    sockets = WsApiClient(configuration=api.configuration)  # type: ignore[no-untyped-call]
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carry(api, sockets, paths.single(pod, "portforward") + paths.query({"ports": port}), reader, writer)
        except ClusterError as error:
            forward.trouble = error
        finally:
            writer.close()

    server = await asyncio.start_server(lambda *ends: tasks.add(asyncio.create_task(connect(*ends))), "127.0.0.1", 0)
    try:
        forward.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield forward
    finally:
        server.close()
        await stop(*tasks)
        await sockets.close()  # type: ignore[no-untyped-call]


async def _carry(
    api: ApiClient, sockets: WsApiClient, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Bytes both ways until either side ends. Raises ClusterError."""
    socket = await _opened(api, sockets, path)
    connection = socket.get_extra_info("socket")
    try:
        async with socket:
            sending = asyncio.create_task(_send(reader, socket))
            try:
                await _receive(socket, writer)
            finally:
                await stop(sending)
    finally:
        await _closed(connection)


async def _closed(connection: TransportSocket) -> None:
    """Waits for the end of TLS, which aiohttp only begins: neither its websocket nor its session tells of the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            while connection.fileno() >= 0:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(LOOK_S)


async def _opened(api: ApiClient, sockets: WsApiClient, path: str) -> aiohttp.ClientWebSocketResponse:
    headers: dict[str, str] = {}
    await sockets.update_params_for_auth(headers, None, ["BearerToken"], path, "GET", None)
    url = sockets.configuration.host + path
    try:
        async with asyncio.timeout(CONNECT_S):
            opening = await sockets.request("GET", url, headers=headers, _preload_content=False)  # type: ignore[no-untyped-call]
            socket: aiohttp.ClientWebSocketResponse = await opening
            return socket
    except aiohttp.WSServerHandshakeError as refused:
        raise await _words(api, path, refused.status) from refused
    except (aiohttp.ClientError, OSError) as failed:
        raise Unavailable(f"the API server cannot be reached: {str(failed) or type(failed).__name__}") from failed


async def _words(api: ApiClient, path: str, status: int) -> ClusterError:
    """A refused handshake hides its reason; the same question without a handshake tells it."""
    try:
        await Calls(api, _nothing, Pace()).answer_at_once(Request("GET", path), within_s=CONNECT_S)
    except ClusterError as error:
        return error
    return Unavailable(f"the API server answered {status}")


async def _nothing() -> None:
    """The credentials have just been used."""


async def _send(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while chunk := await reader.read(1 << 16):
        await socket.send_bytes(BYTES + chunk)
    await socket.close()


async def _receive(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """The first message of each channel names the port. Raises Unavailable in the kubelet's words."""
    begun: set[bytes] = set()
    async for message in socket:
        channel, content = message.data[:1], message.data[1:]
        if channel not in begun:
            begun.add(channel)
        elif channel == BYTES:
            writer.write(content)
            await writer.drain()
        elif channel == WORDS and content:
            raise Unavailable(content.decode(errors="replace").strip())

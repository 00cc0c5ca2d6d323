"""A proxy before a real API server, with troubles on request; for clients whose connections a test has to break."""

import asyncio
import json
import ssl
from base64 import b64decode
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from api_front import Trouble

WRITES = ("POST", "PUT", "PATCH", "DELETE")
Written = Callable[[int], None]
"""Called with n when the API server has done the n-th write, before anybody else hears of it."""


@dataclass
class ApiProxy:
    """`troubles` answer the next requests that are no watches, one each; `always` comes before every request."""

    upstream: str
    session: aiohttp.ClientSession
    troubles: deque[Trouble] = field(default_factory=deque)
    always: Trouble | None = None
    written: Written = lambda n: None
    writes: list[str] = field(default_factory=list)
    watches: list[web.Request] = field(default_factory=list)
    expired: bool = False
    """Watches that come now are told that what they ask for is forgotten (410)."""

    def cut_watches(self) -> int:
        cut = list(self.watches)
        for watch in cut:
            if watch.transport is not None:
                watch.transport.abort()
        return len(cut)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        is_watch = "watch" in request.query
        if self.always is not None and (told := await self.always(request)) is not None:
            return told
        if is_watch and self.expired:
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
            line = {"type": "ERROR", "object": {**gone, "message": "too old resource version"}}
            return web.Response(text=json.dumps(line) + "\n", content_type="application/json")
        if not is_watch and self.troubles and (told := await self.troubles.popleft()(request)) is not None:
            return told
        return await self._passed_on(request, is_watch)

    async def _passed_on(self, request: web.Request, is_watch: bool) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        body = await request.read()
        url = self.upstream + request.path_qs
        async with self.session.request(request.method, url, headers=headers, data=body or None) as told:
            if is_watch:
                return await self._streamed(request, told)
            content = await told.read()
        if request.method in WRITES:
            self.writes.append(f"{request.method} {request.path}")
            self.written(len(self.writes))
        return web.Response(body=content, status=told.status, content_type=told.content_type)

    async def _streamed(self, request: web.Request, told: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=told.status, headers={"Content-Type": told.content_type})
        await response.prepare(request)
        self.watches.append(request)
        try:
            async for line in told.content:
                await response.write(line)
        finally:
            self.watches.remove(request)
        return response


@asynccontextmanager
async def api_proxy(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[ApiProxy, Path]]:
    """The proxy, and a kubeconfig that leads through it."""
    config = json.loads(kubeconfig.read_text())  # noqa: ASYNC240 - a moment
    cluster = config["clusters"][0]["cluster"]
    trusted = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True) as session:
        proxy = ApiProxy(cluster["server"], session)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", proxy.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            config["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
            through = folder / "kubeconfig-through-proxy"
            through.write_text(json.dumps(config))
            yield proxy, through
        finally:
            await asyncio.wait_for(runner.cleanup(), 10)

"""The Pods of an API server, over real sockets, as far as a router asks for them, with faults on request."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import certifi
from aiohttp import web
from kvpool_router.membership.pods_api import ApiServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakePodsApi:
    """Holds Pods; `faults` answer the next requests in the Pods' stead."""

    pods: dict[str, dict] = field(default_factory=dict)
    version: int = 100
    faults: deque[Handler] = field(default_factory=deque)
    seen: list[web.Request] = field(default_factory=list)
    watches: list[web.StreamResponse] = field(default_factory=list)

    @property
    def lists(self) -> int:
        return sum("watch" not in request.query for request in self.seen)

    async def put(self, pod: dict) -> None:
        kind = "MODIFIED" if pod["metadata"]["name"] in self.pods else "ADDED"
        await self.tell(kind, self.keep(pod))

    def keep(self, pod: dict) -> dict:
        """Changes the Pod without telling anybody."""
        self.version += 1
        kept = {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(self.version)}}
        self.pods[pod["metadata"]["name"]] = kept
        return kept

    async def delete(self, name: str) -> None:
        self.version += 1
        gone = self.pods.pop(name)
        await self.tell("DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})

    async def bookmark(self, version: str) -> None:
        await self.tell(
            "BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": version}, "spec": {"containers": None}}
        )

    async def tell(self, kind: str, told: dict) -> None:
        await self.say(json.dumps({"type": kind, "object": told}).encode() + b"\n")

    async def say(self, raw: bytes) -> None:
        for watch in self.watches:
            await watch.write(raw)

    def cut(self) -> None:
        for watch in self.watches:
            transport = watch._req.transport
            assert transport is not None
            transport.abort()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.faults:
            return await self.faults.popleft()(request)
        return await (self.watch(request) if "watch" in request.query else self.listing(request))

    async def listing(self, request: web.Request) -> web.Response:
        meta = {"resourceVersion": str(self.version)}
        return web.json_response({"kind": "PodList", "metadata": meta, "items": list(self.pods.values())})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Open for as long as it is asked to be."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches.append(response)
        try:
            await asyncio.sleep(float(request.query["timeoutSeconds"]))
        finally:
            self.watches.remove(response)
        return response


def answering(status: int, message: str, **headers: str) -> Handler:
    """A failure in the API server's own shape."""

    async def answer(request: web.Request) -> web.Response:
        told = {"kind": "Status", "status": "Failure", "message": message, "code": status}
        return web.json_response(told, status=status, headers=headers)

    return answer


def saying(body: bytes, status: int = 200) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return answer


async def hanging(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


@asynccontextmanager
async def fake_pods_api(credentials: Path) -> AsyncIterator[tuple[FakePodsApi, ApiServer]]:
    """The server, and how to reach it: its token in `credentials`."""
    (credentials / "token").write_text("first\n")
    (credentials / "ca.crt").write_text(certifi.contents())
    api = FakePodsApi()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield api, ApiServer(f"http://{host}:{port}", credentials)
    finally:
        await runner.cleanup()

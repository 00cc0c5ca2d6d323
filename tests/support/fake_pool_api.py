"""An API server with a pool, over real sockets, as far as `kubectl kvpool` asks: objects, refusals, port-forwards."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from kvpool_api.wire import Decisions
from kvpool_cli.kubectl_access import Access
from pool_facts import facts, pool

TOKEN = "open sesame"
POOLS = "/apis/kvpool.dev/v1alpha1/namespaces/team/inferencepools"
PODS = "/api/v1/namespaces/team/pods"
SECRET = "/api/v1/namespaces/team/secrets/qwen-admin"
OPERATOR = "/apis/apps/v1/namespaces/kvpool-system/deployments/kvpool-operator"


@dataclass
class FakePoolApi:
    """`objects` by path, `refusals` by path as (status, words); `admin_ports` of router Pods by name."""

    objects: dict[str, dict] = field(default_factory=dict)
    pods: list[dict] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    admin_ports: dict[str, int] = field(default_factory=dict)
    kubelet_says: str = ""
    seen: list[str] = field(default_factory=list)

    def refuse(self, path: str, verb: str, resource: str) -> None:
        """By RBAC."""
        whom = f'User "ann" cannot {verb} resource "{resource}" in API group "" in the namespace "team"'
        words = f"{resource} is forbidden: {whom}"
        self.refusals[path] = (403, words)

    def put_pool(self, name: str = "qwen", **changes: object) -> None:
        found = pool(**changes) if "conditions" not in changes else pool(*changes.pop("conditions"), **changes)
        told = found.model_dump(mode="json", by_alias=True, exclude_none=True)
        told["metadata"] |= {"name": name, "namespace": "team", "managedFields": [], "resourceVersion": "1"}
        self.objects[f"{POOLS}/{name}"] = told

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.seen.append(f"{request.method} {path}")
        if path in self.refusals:
            return status(*self.refusals[path])
        if path.endswith("/portforward"):
            return await self.forward(request, path.split("/")[-2])
        if path == PODS:
            wanted = dict(each.split("=") for each in request.query["labelSelector"].split(","))
            found = [pod for pod in self.pods if wanted.items() <= pod["metadata"]["labels"].items()]
            return listing(found)
        if path == POOLS:
            return listing([told for at, told in self.objects.items() if at.startswith(POOLS)])
        if path in self.objects:
            return web.json_response(self.objects[path])
        return status(404, f'"{path.split("/")[-1]}" not found')

    async def forward(self, request: web.Request, pod: str) -> web.StreamResponse:
        """As a kubelet does it: two channels, each begun with the port's number."""
        if request.headers.get("Upgrade") != "websocket":
            return status(400, "Upgrade request required")
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        port = int(request.query["ports"]).to_bytes(2, "little")
        await socket.send_bytes(b"\x00" + port)
        await socket.send_bytes(b"\x01" + port)
        if self.kubelet_says:
            await socket.send_bytes(b"\x01" + self.kubelet_says.encode())
            await socket.close()
            return socket
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_ports[pod])

        async def back() -> None:
            while chunk := await reader.read(1000):
                await socket.send_bytes(b"\x00" + chunk)
            await socket.close()

        returning = asyncio.create_task(back())
        async for message in socket:
            assert message.data[:1] == b"\x00"
            writer.write(message.data[1:])
        writer.close()
        returning.cancel()
        with suppress(asyncio.CancelledError):
            await returning
        return socket


def status(code: int, words: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": words, "code": code}, status=code)


def listing(items: list[dict]) -> web.Response:
    return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})


def router_pod(name: str = "qwen-router-1", phase: str = "Running", **told: object) -> dict:
    labels = {"kvpool.dev/pool": "qwen", "kvpool.dev/role": "router"}
    return {"metadata": {"name": name, "namespace": "team", "labels": labels}, "status": {"phase": phase, **told}}


def engine(name: str, **told: object) -> dict:
    labels = {"kvpool.dev/pool": "qwen", "kvpool.dev/role": "engine"}
    statuses = [{"name": "engine", "ready": True, "state": {"running": {}}}]
    known = {"phase": "Running", "containerStatuses": statuses, **told}
    return {"metadata": {"name": name, "namespace": "team", "labels": labels}, "status": known}


@asynccontextmanager
async def admin_port(*workers, decisions=(), token: str = TOKEN) -> AsyncIterator[int]:
    """A router's admin endpoint."""
    state = facts(*workers).state

    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("X-Kvpool-Token") != token:
            return web.json_response({}, status=401)
        told = state if request.path == "/state" else Decisions(router="r", decisions=list(decisions))
        assert told is not None
        return web.json_response(text=told.model_dump_json(by_alias=True))

    async with served(answer) as port:
        yield port


@asynccontextmanager
async def served(answer) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def fake_pool_api(folder: Path) -> AsyncIterator[tuple[FakePoolApi, Access]]:
    api = FakePoolApi()
    token = base64.b64encode(TOKEN.encode()).decode()
    api.objects[SECRET] = {"kind": "Secret", "data": {"token": token}}
    async with served(api.answer) as port:
        yield api, Access(write_kubeconfig(folder, f"http://127.0.0.1:{port}"), "here", "team")


def write_kubeconfig(folder: Path, server: str = "http://127.0.0.1:1", **changes: object) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "ann", "user": {"token": "t"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "ann", "namespace": "team"}},
            {"name": "bare", "context": {"cluster": "c", "user": "ann"}},
        ],
    }
    (folder / "config").write_text(json.dumps({**config, **changes}))
    return folder / "config"

"""A whole router in this process: its files on disk, its two apps on real ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from engine_pods import engine_pod, write_pods
from event_publisher import EventPublisher
from eventually import eventually
from kvpool_api.wire import RouterConfig, RouterState, TokenizerConfig, WorkerState
from kvpool_router.admin_token import TokenFile
from kvpool_router.app import open_router
from kvpool_router.membership.file_impl import FileMembership
from kvpool_router.serve import Server, listen
from kvpool_router.settings import Address, Settings
from pydantic import JsonValue

TOKEN = "open sesame"
PODS_FILE = "pods.json"
TOKEN_FILE = "admin-token"


@dataclass
class RouterWorld:
    """One running router."""

    front: str
    """URL of the http port."""
    admin: str
    """URL of the admin port."""
    pods_file: Path
    client: aiohttp.ClientSession

    @property
    def token_file(self) -> Path:
        return self.pods_file.with_name(TOKEN_FILE)

    def pods(self, *pods: dict[str, JsonValue]) -> None:
        write_pods(self.pods_file, *pods)

    async def state(self) -> RouterState:
        async with self.client.get(f"{self.admin}/state", headers={"X-Kvpool-Token": TOKEN}) as answer:
            assert answer.status == 200
            return RouterState.model_validate_json(await answer.read())

    async def worker(self, pod: str) -> WorkerState:
        return next(worker for worker in (await self.state()).workers if worker.pod == pod)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(self.front + path) as answer:
            return answer.status, await answer.text()


def settings_for(folder: Path, name: str = "qwen-router-0", **changes: object) -> Settings:
    (folder / TOKEN_FILE).write_text(TOKEN)
    config = RouterConfig(
        pool="qwen",
        namespace="default",
        model="tiny",
        block_tokens=16,
        max_body_bytes=1 << 20,
        sync_timeout_s=5.0,
        metrics_interval_s=0.05,
    )
    return Settings(
        config=config.model_copy(update=changes),
        router=name,
        http=Address("127.0.0.1", 0),
        admin=Address("127.0.0.1", 0),
        admin_token=TokenFile(folder / TOKEN_FILE).now,
        membership=FileMembership(folder / PODS_FILE),
        tokenizer=TokenizerConfig(),
    )


@contextlib.asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    """The app on a free port, by the server that the router uses."""
    listener = listen(Address("127.0.0.1", 0), "http")
    port = listener.getsockname()[1]
    server = Server(app, 1.0)
    task = asyncio.create_task(server.serve([listener]))
    try:
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await task


@contextlib.asynccontextmanager
async def running_router(folder: Path, name: str = "qwen-router-0", **changes: object) -> AsyncIterator[RouterWorld]:
    """`changes` are fields of its RouterConfig. Routers of one folder are of one pool."""
    settings = settings_for(folder, name, **changes)
    async with (
        open_router(settings) as router,
        serving(router.front) as front,
        serving(router.admin) as admin,
        aiohttp.ClientSession() as client,
    ):
        yield RouterWorld(front, admin, folder / PODS_FILE, client)


def router_pod(name: str, router: RouterWorld) -> dict[str, JsonValue]:
    """The Pod of a router in this process."""
    port = urlsplit(router.admin).port
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "uid": name, "labels": {"kvpool.dev/role": "router"}},
        "spec": {"containers": [{"name": "router", "ports": [{"name": "admin", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    }


def pod_of(
    publisher: EventPublisher, http_port: int, name: str = "qwen-abc-0", **changes: object
) -> dict[str, JsonValue]:
    """The Pod of an engine in this process."""
    return engine_pod(
        name,
        ip="127.0.0.1",
        http_port=http_port,
        events_port=int(publisher.events.rsplit(":", 1)[1]),
        replay_port=int(publisher.replay.rsplit(":", 1)[1]),
        **changes,
    )

"""Local clusters for tests: containers are the tiny server, polling instead of sleeping."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import tiny_server
from kvpool_api.crd import custom_resource_definition
from kvpool_api.validation import Admission
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import ImageTable, LocalCluster, Program
from kvpool_operator.cluster.local.addresses import is_free
from kvpool_operator.cluster.seam import Cluster, NotFound, Ref

T = TypeVar("T")

TINY = (sys.executable, "-I", "-S", str(tiny_server.__file__))
ENGINE = Program(TINY)
ROUTER = Program(TINY, is_router=True)
IMAGES = ImageTable(by_image={"tiny": ENGINE}, by_container={"engine": ENGINE, "router": ROUTER})
DEADLINE_S = 30


@cache
def admission() -> Admission:
    return Admission(custom_resource_definition())


def free_pair() -> int:
    """A port that is free now together with the one above it, from below those that the kernel hands out itself."""
    ports = iter(lambda: random.randrange(10_000, 30_000, 2), None)
    return next(port for port in ports if is_free("127.0.0.1", port) and is_free("127.0.0.1", port + 1))


@asynccontextmanager
async def local_cluster(
    run_dir: Path,
    *,
    images: ImageTable = IMAGES,
    port: int | None = None,
    stop_grace_s: float = 2.0,
    history: int = 4096,
) -> AsyncIterator[LocalCluster]:
    cluster = LocalCluster(
        images,
        run_dir=run_dir,
        router_port=port or free_pair(),
        admit=admission().admit,
        environment=dict(os.environ),
        stop_grace_s=stop_grace_s,
        history=history,
    )
    async with cluster:
        yield cluster


async def eventually(answer: Callable[[], Awaitable[T | None]], *, deadline_s: float = DEADLINE_S) -> T:
    """The first answer that is true; NotFound counts as not yet."""
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                found = await answer()
            except NotFound:
                found = None
            if found:
                return found
            await asyncio.sleep(0.01)


def tiny_pod(name: str, *args: str, spec: Mapping[str, Any] | None = None, **container: Any) -> dict[str, Any]:  # noqa: ANN401
    """A Pod of one container `engine`; it serves on its address unless told its arguments."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            **(spec or {}),
            "containers": [
                {
                    "name": "engine",
                    "image": "tiny",
                    "args": list(args or ("--listen", "$(POD_IP):8000")),
                    "ports": [{"name": "http", "containerPort": 8000}],
                    **container,
                    "env": [
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        *container.get("env", []),
                    ],
                }
            ],
        },
    }


async def pod_now(cluster: Cluster, name: str) -> Any:  # noqa: ANN401 - a manifest, read at will by tests
    return await cluster.get(Ref(seam.POD, "default", name))


def condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = [c for c in pod.get("status", {}).get("conditions", []) if c["type"] == kind]
    return found[0] if found else {"status": "Unknown"}


def engine_state(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The first container's status."""
    statuses = pod.get("status", {}).get("containerStatuses")
    return dict(statuses[0]) if statuses else {"state": {}, "lastState": {}, "restartCount": -1}


async def ready_pod(cluster: Cluster, name: str) -> Any:  # noqa: ANN401 - a manifest
    """The Pod, once its containers are ready."""

    async def is_ready() -> Any:  # noqa: ANN401
        pod = await pod_now(cluster, name)
        return pod if condition(pod, "ContainersReady")["status"] == "True" else None

    return await eventually(is_ready)


async def about(url: str) -> Any:  # noqa: ANN401 - JSON
    """What a tiny server at `http://host:port` says of itself."""
    import aiohttp

    async with aiohttp.ClientSession() as http, http.get(f"{url}/about") as answer:
        return await answer.json(content_type=None)


def pid_of(pod: Mapping[str, Any]) -> int:
    return int(engine_state(pod)["containerID"].removeprefix("local://"))


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

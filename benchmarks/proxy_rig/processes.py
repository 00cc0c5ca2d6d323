"""The measured processes: the stub, the plain proxy and the router as production runs it, each on a port of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ENGINES = 4
PREDICTION_TTL_S = 1.0
"""Short, since the stub sends no events that would confirm a prediction and so end it."""
START_S = 20.0


@dataclass(frozen=True)
class Side:
    """One way from the client to the engine."""

    name: str
    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU of all threads; to the nanosecond where the kernel tells, as ticks of 10 ms are coarse for a batch."""
        threads = list(Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"))
        if threads:
            return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        return float(self.process.memory_info().rss) / 1e6


@contextlib.contextmanager
def rig(folder: Path) -> Iterator[tuple[Side, Side, Side]]:
    """(direct, plain, ours); every process has ended when the block is left."""
    stub, plain, http, admin = free_ports(4)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running("benchmarks.proxy_rig.engine_stub", str(stub)))
        proxy = stack.enter_context(running("benchmarks.proxy_rig.plain_proxy", str(plain), f"http://127.0.0.1:{stub}"))
        config, token, env = router_files(folder, _pods(stub), http, admin)
        router = stack.enter_context(
            running("kvpool_router", "--config", str(config), "--admin-token-file", str(token), env=env)
        )
        for port in (stub, plain):
            wait(lambda port=port: listens(port))
        wait(lambda: ready(http))
        yield Side("direct", stub, engine), Side("plain", plain, proxy), Side("ours", http, router)


@contextlib.contextmanager
def running(module: str, *arguments: str, env: dict[str, str] | None = None) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def router_files(
    folder: Path, pods: list[dict[str, object]], http: int, admin: int
) -> tuple[Path, Path, dict[str, str]]:
    """Configuration, token and environment of a router of these Pods."""
    config, members, token = folder / "router.json", folder / "members.json", folder / "token"
    config.write_text(
        json.dumps(
            {
                "pool": "bench",
                "namespace": "bench",
                "model": "stub",
                "blockTokens": 16,
                "maxBodyBytes": 1 << 25,
                "syncTimeoutS": 1.0,
                "predictionTtlS": PREDICTION_TTL_S,
            }
        )
    )
    members.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": pods}))
    token.write_text("bench")
    env = {
        "POD_NAME": "router",
        "POD_IP": "127.0.0.1",
        "KVPOOL_MEMBERSHIP_FILE": str(members),
        "KVPOOL_HTTP_PORT": str(http),
        "KVPOOL_ADMIN_PORT": str(admin),
        "HF_HUB_OFFLINE": "1",
    }
    return config, token, env


def _pods(stub: int) -> list[dict[str, object]]:
    return [
        {
            "metadata": {"name": f"engine-{number}", "uid": f"uid-{number}"},
            "spec": {"containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": stub}]}]},
            "status": {
                "podIP": "127.0.0.1",
                "phase": "Running",
                "conditions": [{"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [{"name": "engine", "restartCount": 0}],
            },
        }
        for number in range(ENGINES)
    ]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
        return bool(answer.status == 200)
    return False


def wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("a process of the rig did not start")
        time.sleep(0.05)

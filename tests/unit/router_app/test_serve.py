import asyncio
import gc
import http.client
import json
import logging
import os
import signal
import threading
import time
from dataclasses import replace

import aiohttp
import pytest
from engine_pods import engine_pod, write_pods
from eventually import eventually
from kvpool_router.app import run_router
from kvpool_router.command import main
from kvpool_router.serve import Server, listen, serve_until_told
from kvpool_router.settings import Address, SettingsError
from router_world import PODS_FILE, settings_for

LOOPBACK = Address("127.0.0.1", 0)


class Slow:
    """Answers when its gate opens, or is cancelled."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope, receive, send) -> None:
        self.entered.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.body", "body": b"ended"})


class Served:
    """A slow app on the http port, and whether serving has been told to stop."""

    def __init__(self, shutdown_s: float) -> None:
        self.app = Slow()
        self.sockets = listen(LOOPBACK, "http"), listen(LOOPBACK, "admin")
        self.url, self.admin_url = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in self.sockets)
        self.told = False
        self.vital = asyncio.create_task(_for_ever())
        self.serving = asyncio.create_task(
            serve_until_told(
                Server(self.app, shutdown_s), Server(self.app, shutdown_s), self.sockets, self._stop, self.vital
            )
        )

    def _stop(self) -> None:
        self.told = True


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_stream_that_runs_when_sigterm_comes_ends_in_peace_and_new_connections_are_refused():
    served = Served(shutdown_s=10)
    async with aiohttp.ClientSession() as client, client.get(served.url) as answer:
        await served.app.entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
            except ConnectionError:
                break
            writer.close()
        assert served.told
        assert not served.serving.done()
        served.app.gate.set()
        assert await answer.read() == b"begun ended"
    await served.serving
    assert not served.app.cancelled


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_stream_that_does_not_end_is_cut_at_the_deadline_or_at_a_second_signal(signals):
    served = Served(shutdown_s=1 if signals == 1 else 1000)
    async with aiohttp.ClientSession() as client, client.get(served.url):
        await served.app.entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        if signals == 2:
            await eventually(lambda: served.told)
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(served.serving, 10)


async def test_serving_ends_with_the_error_of_a_vital_task():
    async def fail() -> None:
        raise RuntimeError("membership is broken")

    sockets = listen(LOOPBACK, "http"), listen(LOOPBACK, "admin")
    http, admin = Server(Slow(), 1), Server(Slow(), 1)
    with pytest.raises(RuntimeError, match="membership is broken"):
        await serve_until_told(http, admin, sockets, lambda: None, asyncio.create_task(fail()))


async def test_a_router_leaves_the_shared_address_when_it_is_told_to_end_and_ends_after_its_requests(tmp_path):
    shared = Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port())
    settings = replace(settings_for(tmp_path), shared=shared)
    write_pods(tmp_path / PODS_FILE)
    sockets = listen(LOOPBACK, "http"), listen(LOOPBACK, "admin")
    own = Address(*sockets[0].getsockname())
    running = asyncio.create_task(run_router(settings, sockets))
    async with aiohttp.ClientSession() as client:
        for address in (own, shared[0]):
            await eventually(lambda address=address: is_healthy(client, address))
        _, unfinished = await asyncio.open_connection(*own)
        unfinished.write(b"POST /v1/completions HTTP/1.1\r\nHost: pool\r\nContent-Length: 9\r\n\r\n")
        assert await is_healthy(client, own)
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: is_left(client, shared[0]))
    assert not running.done()
    unfinished.close()
    await asyncio.wait_for(running, 10)


async def is_left(client, address):
    return not await is_healthy(client, address)


async def is_healthy(client, address):
    try:
        async with client.get(f"http://{address.host}:{address.port}/health") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def test_a_port_in_use_is_one_line_that_names_port_and_mend():
    with listen(LOOPBACK, "http") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"http port 127.0.0.1:{port} cannot be opened .*KVPOOL_HTTP_PORT"):
            listen(Address("127.0.0.1", port), "http")


def test_an_ipv6_loopback_address_can_be_listened_on():
    with listen(Address("::1", 0), "admin") as listening:
        assert listening.getsockname()[1] > 0


def test_bad_settings_end_the_process_with_2_and_one_line(tmp_path, capsys):
    assert main(["--config", str(tmp_path / "none.json"), "--admin-token-file", str(tmp_path / "token")], {}) == 2
    told = capsys.readouterr().err
    assert told.startswith("kvpool-router: ")
    assert told.count("\n") == 1


def test_the_process_serves_logs_as_json_and_ends_with_0_on_sigterm(process_files, capsys, own_logging):
    arguments, env, port = process_files
    waiting = threading.Thread(target=terminate_once_healthy, args=(port,))
    waiting.start()
    assert main(arguments, env) == 0
    waiting.join()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["pool"] for line in lines} == {"qwen"}


@pytest.fixture
def process_files(tmp_path):
    settings = settings_for(tmp_path)
    write_pods(tmp_path / PODS_FILE, engine_pod(ip="127.0.0.1", http_port=1, events_port=None, replay_port=None))
    (tmp_path / "router.json").write_text(settings.config.model_dump_json(by_alias=True))
    (tmp_path / "token").write_text("secret")
    public, admin = free_port(), free_port()
    env = {
        "POD_IP": "127.0.0.1",
        "KVPOOL_HTTP_PORT": str(public),
        "KVPOOL_ADMIN_PORT": str(admin),
        "KVPOOL_MEMBERSHIP_FILE": str(tmp_path / PODS_FILE),
    }
    arguments = ["--config", str(tmp_path / "router.json"), "--admin-token-file", str(tmp_path / "token")]
    return arguments, env, public


@pytest.fixture
def own_logging():
    """What the process does to logging and to the garbage collector is undone."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    gc.unfreeze()


def free_port() -> int:
    with listen(LOOPBACK, "http") as listening:
        return int(listening.getsockname()[1])


def terminate_once_healthy(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/health")
            assert json.load(connection.getresponse()) == {"status": "ok"}
            break
        except ConnectionError:
            time.sleep(0.01)
        finally:
            connection.close()
    os.kill(os.getpid(), signal.SIGTERM)

"""Do events reach the index soon, for little CPU, and does a map that lost its events come back?

`python -m benchmarks.events [--quick] [--json]`. The router runs as production runs it (`python -m kvpool_router`); the
engines that publish are one process, the engine that answers requests another (64 chunks a stream, 2 ms apart).

- flow: 32 engines publish 5,000 blocks/s in all, each with as many removals, while streams are proxied. Rounds with and
  without events alternate; what a stream costs without them is taken off the CPU of those with them. Lag is from the
  batch's own time to its being in the map, by the router's histogram, within whose buckets it is interpolated.
- blocked: packets of all event and replay ports are dropped under load, in a network namespace of our own (left out
  where none can be had). Counted: failed requests, and the time until every worker is exact and has all again.
- restart: one engine begins anew at the same address, without a word; time until nothing of it is credited.
- idle: 100 engines that publish nothing, each with 60 kB of metrics, which are read every 5 s.
"""

import argparse
import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from kvpool_api.labels import KV_EVENTS_ENDPOINTS

from benchmarks.event_rig import network
from benchmarks.proxy_rig.processes import Side, free_ports, listens, ready, router_files, running, wait
from benchmarks.proxy_rig.streams import Outcome, prompts, run

ENGINES, IDLE_ENGINES, BLOCKS_PER_S = 32, 100, 5000
CHUNKS, CONCURRENCY, ROUND_STREAMS = 64, 8, 96
_BUCKET = re.compile(r'^kvpool_router_event_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Publishers:
    """The process that publishes, and how to order it about."""

    process: "subprocess.Popen[str]"
    addresses: dict[str, dict[str, str]]

    def tell(self, *words: str) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    @property
    def ports(self) -> list[int]:
        return [urlsplit(address).port or 0 for each in self.addresses.values() for address in each.values()]


@dataclass(frozen=True)
class Rig:
    router: Side
    admin: int
    publishers: Publishers

    def workers(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(_read(self.admin, "/state"))["workers"]
        return found

    def lags(self) -> list[tuple[float, float]]:
        """(upper bound of a bucket in s, batches up to there)."""
        told = _read(self.router.port, "/metrics")
        return [(float(bound), float(count)) for bound, count in _BUCKET.findall(told)]

    def exact(self) -> bool:
        return all(worker["events"] == "EXACT" for worker in self.workers())

    def has_all(self, sequences: dict[str, int]) -> bool:
        """Exact, and no worker is behind what was published when `sequences` were read."""
        workers = {str(each["pod"]): each for each in self.workers()}
        exact = all(each["events"] == "EXACT" for each in workers.values())
        return exact and all(int(str(workers[pod]["lastSequence"] or -1)) >= last for pod, last in sequences.items())


def _read(port: int, path: str) -> str:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"X-Kvpool-Token": "bench"})
        return connection.getresponse().read().decode()


@contextlib.contextmanager
def rig(folder: Path, engines: int, blocks_per_s: float, *, idle: bool) -> Iterator[Rig]:
    stub, door, admin = free_ports(3)
    with contextlib.ExitStack() as stack:
        publishers = stack.enter_context(_publishers(engines, blocks_per_s))
        if idle:
            stack.enter_context(running("benchmarks.event_rig.metrics_stub", str(stub), str(engines)))
        else:
            stack.enter_context(running("benchmarks.proxy_rig.engine_stub", str(stub), "untold"))
        pods = [
            _pod(number, name, stub, addresses, idle=idle)
            for number, (name, addresses) in enumerate(publishers.addresses.items(), 1)
        ]
        config, token, env = router_files(folder, pods, door, admin)
        arguments = ("--config", str(config), "--admin-token-file", str(token))
        router = stack.enter_context(running("kvpool_router", *arguments, env=env))
        wait(lambda: idle or listens(stub))
        wait(lambda: ready(door))
        found = Rig(Side("router", door, router), admin, publishers)
        wait(found.exact)
        yield found


@contextlib.contextmanager
def _publishers(count: int, blocks_per_s: float) -> Iterator[Publishers]:
    command = [sys.executable, "-m", "benchmarks.event_rig.publishers", str(count), str(blocks_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Publishers(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


def _pod(number: int, name: str, port: int, addresses: dict[str, str], *, idle: bool) -> dict[str, object]:
    ports = [{"name": "http", "containerPort": port}]
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "annotations": {KV_EVENTS_ENDPOINTS: json.dumps([addresses])},
        },
        "spec": {"containers": [{"name": "engine", "ports": ports}]},
        "status": {
            "podIP": f"127.0.1.{number}" if idle else "127.0.0.1",
            "phase": "Running",
            "conditions": [{"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [{"name": "engine", "restartCount": 0}],
        },
    }


def flow(here: Rig, rounds: int) -> dict[str, float]:
    _streams(here, 0)
    without_s: list[float] = []
    extra_cores: list[float] = []
    before = here.lags()
    for turn in range(rounds):
        cpu_s, _, _ = _streams(here, 2 * turn + 1)
        without_s.append(cpu_s)
        here.publishers.tell("go")
        cpu_s, outcome, _ = _streams(here, 2 * turn + 2)
        extra_cores.append((cpu_s - without_s[-1]) / outcome.wall_s)
        here.publishers.tell("pause")
    lags = [(bound, count - was) for (bound, count), (_, was) in zip(here.lags(), before, strict=True)]
    return {
        "event_batches": lags[-1][1],
        "event_lag_p50_ms": 1e3 * _quantile(lags, 0.5),
        "event_lag_p99_ms": 1e3 * _quantile(lags, 0.99),
        "event_cores": sorted(extra_cores)[len(extra_cores) // 2],
        "proxying_cores": sum(without_s) / len(without_s) / outcome.wall_s,
        "gaps": float(sum(int(str(worker["gaps"])) for worker in here.workers())),
    }


def _streams(here: Rig, seed: int) -> tuple[float, Outcome, float]:
    """CPU of the router for one round of streams, the round, and when it ended."""
    before = here.router.cpu_s()
    outcome = uvloop.run(run(here.router.port, prompts(ROUND_STREAMS, seed, CHUNKS), CONCURRENCY))
    return here.router.cpu_s() - before, outcome, time.monotonic()


def blocked(here: Rig, seconds: float) -> dict[str, float]:
    here.publishers.tell("go")
    failed = streams = 0
    told = set()
    with network.blocked(here.publishers.ports):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _, outcome, _ = _streams(here, streams)
            failed, streams = failed + outcome.errors, streams + ROUND_STREAMS
            told |= {str(worker["events"]) for worker in here.workers()}
        sequences = here.publishers.tell("sequences")
        exact_meanwhile = sum(worker["events"] == "EXACT" for worker in here.workers())
    exact_again_s = _until(lambda: here.has_all(sequences))
    _, outcome, _ = _streams(here, 999)
    here.publishers.tell("pause")
    return {
        "blocked_s": seconds,
        "blocked_streams": float(streams),
        "blocked_failed_streams": float(failed + outcome.errors),
        "blocked_workers_told_exact": float(exact_meanwhile),
        "exact_again_s": exact_again_s,
    }


def restart(here: Rig) -> dict[str, float]:
    here.publishers.tell("pause")
    wait(lambda: here.has_all(here.publishers.tell("sequences")))
    began = time.monotonic()
    here.publishers.tell("restart", "0")

    def credited() -> bool:
        worker = next(each for each in here.workers() if each["pod"] == "engine-0")
        return worker["events"] == "EXACT" and bool(worker["blocks"])

    _until(lambda: not credited())
    gone_s = time.monotonic() - began
    wait(here.exact)
    left = next(each for each in here.workers() if each["pod"] == "engine-0")["blocks"]
    return {"restart_credit_gone_ms": 1e3 * gone_s, "restart_blocks_left": float(str(left))}


def idle(here: Rig, seconds: float) -> dict[str, float]:
    time.sleep(2)  # the first readings of all engines' metrics
    before, began = here.router.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return {"idle_100_workers_core_percent": 100 * (here.router.cpu_s() - before) / (time.monotonic() - began)}


def _until(holds: Callable[[], bool], within_s: float = 60.0) -> float:
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began


def _quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """As Prometheus' histogram_quantile: linear within the bucket."""
    wanted, lower, below = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            inside = (wanted - below) / (count - below) if count > below else 0.0
            return lower + (bound - lower) * inside
        lower, below = bound, count
    return lower


def main() -> None:
    options = argparse.ArgumentParser(description="Do events reach the index soon, for little CPU?")
    options.add_argument("--quick", action="store_true", help="within 45 s on 2 cores")
    options.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = options.parse_args()
    network.enter()
    found: dict[str, float] = {}
    if network.is_own():
        network.prepare()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        with rig(Path(folder), ENGINES, BLOCKS_PER_S, idle=False) as here:
            found |= flow(here, 3 if given.quick else 12)
            found |= restart(here)
            if network.is_own():
                found |= blocked(here, 8 if given.quick else 60)
            else:
                print("left out: blocked ports, which want a network namespace (root, or user namespaces) and iptables")
        with rig(Path(other), IDLE_ENGINES, 0, idle=True) as here:
            found |= idle(here, 6 if given.quick else 30)
    for name, value in found.items():
        print(f"{name:34s} {value:>12.4g}")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

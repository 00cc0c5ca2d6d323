"""Do two routers route as one, and does one that was killed come back with its map?

`python -m benchmarks.replicas [--quick] [--json]`. Prefixes of Zipf popularity, of which the engines' caches together
hold about the popular half, so that a router that knows less shows in the hit rate (cached over prompt tokens).

- in virtual time: the router's own map, books and strategy before the simulator's own engines; one router, two that
  tell each other, and two that do not, on the same traffic. Without noise of a machine.
- as processes: two pools as `kvpool up` runs them, one router and two, warmed up alike, then loaded in turns.
- one of two killed (`kill -9`) under load, and started again: the hit rate of all requests before, and in the seconds
  after it is ready; and what the restarted router foretold of those that it placed.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvpool_api.wire import Decision

from benchmarks.replicas_rig.pools import Rig, rig
from benchmarks.replicas_rig.traffic import Traffic, percent
from benchmarks.replicas_rig.virtual import Found, World

ENGINES = 3
CACHE_BLOCKS = 1200
TRAFFIC = Traffic(groups=60, prefix_tokens=1500, seed=1)
VIRTUAL_PER_S = 45.0
"""Where the three engines have queues now and then: what a router does not know of then costs waiting."""
AFTER_S = 2.0
"""A restarted router has so long until it must do as well as before."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    virtual: int
    """Requests, half of them uncounted."""
    seeds: int
    warm_s: float
    rounds: int
    round_s: float
    around_kill_s: float
    per_s: float = 20.0


QUICK = Sizes(virtual=800, seeds=1, warm_s=6, rounds=2, round_s=2, around_kill_s=3)
FULL = Sizes(virtual=4000, seeds=4, warm_s=30, rounds=6, round_s=10, around_kill_s=20)


def main() -> None:
    options = argparse.ArgumentParser(description="Do two routers route as one?")
    options.add_argument("--quick", action="store_true", help="within 45 s on 2 cores")
    options.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = options.parse_args()
    sizes = QUICK if given.quick else FULL
    found = in_virtual_time(sizes)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one", "two"):
            (Path(folder) / name).mkdir()
        found |= asyncio.run(as_processes(Path(folder), sizes))
    for name, value in found.items():
        print(f"{name:46s} {value:>9.4g}")
    if given.json:
        print(json.dumps(found))


def in_virtual_time(sizes: Sizes) -> dict[str, float]:
    """Means over seeds."""
    sides = {"one": (1, True), "two": (2, True), "two_silent": (2, False)}
    worlds: dict[str, list[Found]] = {name: [] for name in sides}
    for seed in range(sizes.seeds):
        traffic = Traffic(TRAFFIC.groups, TRAFFIC.prefix_tokens, seed)
        for name, (routers, tells) in sides.items():
            world = World(routers, ENGINES, CACHE_BLOCKS, traffic, VIRTUAL_PER_S, tells=tells)
            worlds[name].append(world.found(sizes.virtual // 2, sizes.virtual // 2))
    told = {
        f"virtual_{name}_{figure}": statistics.mean(getattr(each, figure) for each in found)
        for name, found in worlds.items()
        for figure in Found._fields
    }
    return told | {"virtual_two_less_one_points": told["virtual_two_hit_percent"] - told["virtual_one_hit_percent"]}


async def as_processes(folder: Path, sizes: Sizes) -> dict[str, float]:
    async with (
        rig(folder / "one", 1, ENGINES, CACHE_BLOCKS, TRAFFIC.prompts()) as one,
        rig(folder / "two", 2, ENGINES, CACHE_BLOCKS, TRAFFIC.prompts()) as two,
    ):
        for side in (one, two):
            await side.for_s(sizes.warm_s, 1.5 * sizes.per_s, 1)
        hits: dict[str, list[float]] = {"one": [], "two": []}
        for turn in range(sizes.rounds):
            order = (("one", one), ("two", two)) if turn % 2 else (("two", two), ("one", one))
            for name, side in order:
                hits[name].append(await side.for_s(sizes.round_s, sizes.per_s, 10 + turn))
        mean = {name: statistics.mean(found) for name, found in hits.items()}
        told = {f"processes_{name}_hit_percent": value for name, value in mean.items()}
        told["processes_two_less_one_points"] = mean["two"] - mean["one"]
        told["requests_without_answer"] = float(one.failed + two.failed)
        return told | await killed(two, sizes)


async def killed(side: Rig, sizes: Sizes) -> dict[str, float]:
    """One of two routers is killed under load."""
    victim, sibling = sorted(side.routers, key=lambda router: side.routers[router]["http"] == side.pool.url)
    ended = asyncio.Event()
    begun = time.monotonic()
    load = asyncio.create_task(side.load(sizes.per_s, lambda: not ended.is_set(), 99))
    await asyncio.sleep(sizes.around_kill_s)
    side.kill(victim)
    at_kill = time.monotonic()
    at_ready = await side.until_ready(victim)
    await asyncio.sleep(AFTER_S + sizes.around_kill_s)
    ended.set()
    await load
    before = side.hit_percent(begun, at_kill)
    after = side.hit_percent(at_ready + AFTER_S, time.monotonic())
    placed = [each for each in (await side.decisions(victim)).decisions if each.pod is not None]
    origin = (await side.state(victim)).map_origin
    return {
        "killed_hit_percent_before": before,
        "killed_hit_percent_first_2_s_after_ready": side.hit_percent(at_ready, at_ready + AFTER_S),
        "killed_hit_percent_from_2_s_after_ready": after,
        "killed_points_from_2_s_after_ready": after - before,
        "killed_to_ready_s": at_ready - at_kill,
        "restarted_router_placed_requests": float(len(placed)),
        "restarted_router_predicted_hit_percent": _predicted_percent(placed),
        "restarted_with_siblings_map": float(origin.startswith(f"Began with the map of {sibling}")),
    }


def _predicted_percent(placed: Sequence[Decision]) -> float:
    return percent(
        sum(each.predicted_cached_tokens or 0 for each in placed), sum(each.prompt_tokens or 0 for each in placed)
    )


if __name__ == "__main__":
    main()

"""What does the router's door cost, beside a plain aiohttp reverse proxy?

`python -m benchmarks.proxy [--quick] [--json] [--soak N]`. One engine stub (64 chunks of about 170 bytes, 2 ms apart)
is reached directly, through a plain proxy (aiohttp.web + aiohttp client) and through the router as production runs it
(`python -m kvpool_router`, four workers, CacheAware, prompts of 1,024 token ids). Each side is a process of its own;
batches of the three alternate within one run, and ratios are taken between neighbours, so that a busy machine touches
all alike.

- `cpu_vs_plain_proxy`: CPU of our process per stream over that of the plain proxy.
- `latency_c1_vs_plain_proxy`: one client, time to the first byte: (ours - direct) / (plain - direct).
- Both take each side's lower quartile (of rounds, of requests), which the preemptions of a busy machine do not reach.
- added inter-token latency: 99th percentile of the gaps between arrivals, less that of the direct way.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.proxy_rig.processes import Side, rig
from benchmarks.proxy_rig.streams import Outcome, prompts, run

CHUNKS = 64
CONCURRENCY = 16
WARM_UP = 5000


@dataclass
class Measured:
    """One side over all rounds."""

    cpu_ms: list[float] = field(default_factory=list)
    """A stream, by round."""
    gaps_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    errors: int = 0


def main() -> None:
    options = argparse.ArgumentParser(description="What does the router's door cost, beside a plain reverse proxy?")
    options.add_argument("--quick", action="store_true", help="within 45 s on 2 cores")
    options.add_argument("--json", action="store_true", help="the last line is one JSON object")
    options.add_argument("--soak", type=int, metavar="N", help="N requests instead, with memory before and after")
    options.add_argument("--rounds", type=int, help="rounds of streams (quick: 8, else 16)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as sides:
        if given.soak:
            found = uvloop.run(soak(sides[2], given.soak))
        else:
            found = uvloop.run(compare(sides, given.rounds or (8 if given.quick else 16), 600 if given.quick else 1200))
    for name, value in found.items():
        print(f"{name:34s} {value:>12.4g}")
    if given.json:
        print(json.dumps(found))


async def compare(sides: Sequence[Side], rounds: int, latency_samples: int) -> dict[str, float]:
    """Both bars and the figures around them."""
    measured = {side.name: Measured() for side in sides}
    await _batches(sides, {side.name: Measured() for side in sides}, CONCURRENCY * 2, CHUNKS, CONCURRENCY, seed=0)
    for turn in range(rounds):
        order = sides if turn % 2 else tuple(reversed(sides))
        await _batches(order, measured, CONCURRENCY * 8, CHUNKS, CONCURRENCY, seed=turn + 1)
    latency = {side.name: Measured() for side in sides}
    for turn in range(latency_samples // 20):
        order = sides if turn % 2 else tuple(reversed(sides))
        await _batches(order, latency, 20, 1, 1, seed=1000 + turn)
    crowd = await run(sides[2].port, prompts(400, 77, CHUNKS), 200)
    return _figures(sides, measured, latency, crowd)


async def _batches(
    sides: Sequence[Side], into: dict[str, Measured], count: int, chunks: int, concurrency: int, seed: int
) -> None:
    bodies = prompts(count, seed, chunks)
    for side in sides:
        before = side.cpu_s()
        outcome = await run(side.port, bodies, concurrency)
        found = into[side.name]
        found.cpu_ms.append((side.cpu_s() - before) / count * 1e3)
        found.gaps_s += outcome.gaps_s
        found.first_s += outcome.first_s
        found.errors += outcome.errors


def _figures(
    sides: Sequence[Side], streams: dict[str, Measured], latency: dict[str, Measured], crowd: Outcome
) -> dict[str, float]:
    plain, ours, direct = streams["plain"], streams["ours"], streams["direct"]
    first = {name: _lower_quartile(each.first_s) for name, each in latency.items()}
    cpu, plain_cpu = _lower_quartile(ours.cpu_ms), _lower_quartile(plain.cpu_ms)
    return {
        "cpu_vs_plain_proxy": cpu / plain_cpu,
        "latency_c1_vs_plain_proxy": (first["ours"] - first["direct"]) / (first["plain"] - first["direct"]),
        "cpu_ms_per_64_chunk_stream": cpu,
        "plain_cpu_ms_per_64_chunk_stream": plain_cpu,
        "chunks_per_s_per_core": CHUNKS / cpu * 1e3,
        "added_latency_c1_p25_ms": (first["ours"] - first["direct"]) * 1e3,
        "plain_added_latency_c1_p25_ms": (first["plain"] - first["direct"]) * 1e3,
        "added_inter_token_p99_ms": (_p99(ours.gaps_s) - _p99(direct.gaps_s)) * 1e3,
        "plain_added_inter_token_p99_ms": (_p99(plain.gaps_s) - _p99(direct.gaps_s)) * 1e3,
        "direct_inter_token_p99_ms": _p99(direct.gaps_s) * 1e3,
        "rss_mb": next(side for side in sides if side.name == "ours").rss_mb(),
        "plain_rss_mb": next(side for side in sides if side.name == "plain").rss_mb(),
        "errors": float(sum(each.errors for each in (*streams.values(), *latency.values()))),
        "errors_of_400_at_200_concurrent": float(crowd.errors),
    }


async def soak(side: Side, count: int) -> dict[str, float]:
    """Memory over many short streams, after a warm-up that fills every bounded structure (history, decisions)."""
    warm = await _soaked(side, WARM_UP, 0)
    before = side.rss_mb()
    through = await _soaked(side, count, 1)
    after = side.rss_mb()
    return {
        "requests": float(count),
        "errors": float(warm + through),
        "rss_before_mb": before,
        "rss_after_mb": after,
        "growth_percent": (after / before - 1) * 100,
    }


async def _soaked(side: Side, count: int, seed: int) -> int:
    errors, batch = 0, 1000
    for start in range(0, count, batch):
        bodies = prompts(min(batch, count - start), seed * 1_000_000 + start, 4)
        errors += (await run(side.port, bodies, 64)).errors
    return errors


def _lower_quartile(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[int(0.99 * (len(ordered) - 1))]


if __name__ == "__main__":
    main()

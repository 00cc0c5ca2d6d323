"""Does the router know what real vLLM holds, while caches overflow, an engine dies and its events are cut off?

python -m benchmarks.real_vllm [--quick] [--json] [--if-here]

Two real engines on CPU (a tiny random model, caches of 640 blocks, a few times less than is asked for) behind
`kvpool up`, and 500 mixed requests, 8 at a time: chat, completions, messages and responses, streams and plain, tools,
salts, token ids, growing conversations. One engine is killed on the way and comes back at the same address.

- `equal_percent`: requests placed while the worker's map was EXACT whose predicted cached tokens are the engine's own.
- each exception is held against an ear of the benchmark's own at that engine's events: had the cache changed between
  placement and answer so that it held, at some moment, just what the engine reports?
- then the event sockets are blocked under load, by a relay that lets nothing pass and closes nothing.

--quick: 120 requests and 10 s of blocking; starting two engines takes another minute.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import uvloop
from aiohttp import ClientError
from rich.console import Console
from rich.table import Table

from benchmarks.vllm_rig import (
    NAME,
    Answered,
    Ask,
    Decision,
    EventState,
    Misprediction,
    Mixture,
    Rig,
    decided_at,
    eventually,
    is_prepared,
    relayed,
    rig,
    token_prompts,
)

CONCURRENCY = 8
LONGEST_S = 900
PROBE_TOKENS = 640
NEW_BLOCK_PROBES = 5


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    requests: int
    before_kill: int
    after_return: int
    blocked_s: float


FULL, QUICK = Size(500, 200, 150, 60), Size(120, 50, 40, 10)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.real_vllm", description="Does the router know what vLLM holds?")
    parser.add_argument("--quick", action="store_true", help="fewer requests, a shorter cut")
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    parser.add_argument("--if-here", action="store_true", help="only where vLLM is installed already")
    given = parser.parse_args()
    if not is_prepared():
        print("benchmarks.real_vllm is left out: `make test RING=vllm` installs real vLLM for CPU")
        sys.exit(0 if given.if_here else 1)
    found = uvloop.run(measure(QUICK if given.quick else FULL))
    table = Table("", "", box=None)
    for name, value in found.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)
    if given.json:
        print(json.dumps(found))


async def measure(size: Size) -> dict[str, object]:
    begun = time.monotonic()
    async with rig() as bench:
        started_s = time.monotonic() - begun
        restart = await mixed_with_restart(bench, size)
        equal = await judged(bench)
        credit = await new_blocks(bench)
        blocked = await cut_off(bench, size.blocked_s)
    return {**equal, **restart, **credit, **blocked, "start_s": round(started_s, 1)}


async def mixed_with_restart(bench: Rig, size: Size) -> dict[str, object]:
    """The load goes on while an engine is killed, and until it has served again for a while."""
    asks, returned_at = iter(Mixture(NAME, seed=1)), -1
    load = asyncio.create_task(
        bench.load(
            asks,
            CONCURRENCY,
            lambda: returned_at < 0 or len(bench.answered) < max(size.requests, returned_at + size.after_return),
        )
    )
    await eventually(lambda: len(bench.answered) >= size.before_kill, within_s=LONGEST_S)
    died_at, no_credit_s = await killed(bench)
    await bench.until_exact()
    away_s, returned_at = time.time() - died_at, len(bench.answered)
    await load
    return {"kill_to_no_credit_s": no_credit_s, "engine_away_s": round(away_s, 1)}


async def killed(bench: Rig) -> tuple[float, float]:
    """Kills the engine that holds a prompt: when, and seconds until the last request that was credited there."""
    prompt = next(token_prompts(1, PROBE_TOKENS))
    probe = Ask("probe", "/v1/completions", {"model": NAME, "prompt": prompt, "max_tokens": 1})
    first = await bench.send(probe)
    pod = (await bench.decided())[first.request_id].pod
    assert pod is not None
    server = min(bench.pool.up.pids_of(pod))
    os.kill(server, signal.SIGKILL)
    at = time.time()
    bench.caches[pod].clear(at)
    asked = {each.request_id for each in await asyncio.gather(*await _probes(bench, probe))}
    credited = [each for name, each in (await bench.decided()).items() if name in asked and _credits(each, pod)]
    return at, round(max((decided_at(each) - at for each in credited), default=0.0), 3)


async def _probes(bench: Rig, probe: Ask) -> list["asyncio.Task[Answered]"]:
    """One every 100 ms for 3 s, whatever the one before waits for."""
    begun = []
    for _ in range(30):
        begun.append(asyncio.create_task(bench.send(probe)))
        await asyncio.sleep(0.1)
    return begun


def _credits(decision: Decision, pod: str) -> bool:
    """Whether blocks of that pod drew the request: it was tried there first, or it is still listed with them."""
    return decision.attempts > 1 or any(each.cached_tokens for each in decision.candidates if each.pod == pod)


async def judged(bench: Rig) -> dict[str, object]:
    """Predicted against found, and why they differ where they do."""
    decided, urls = await bench.decided(), {each.pod: each.url for each in await bench.workers()}
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    for each in bench.answered:
        decision = decided.get(each.request_id)
        counts[verdict := _verdict(bench, each, decision)] += 1
        if verdict == "differs" and decision is not None:
            kinds[each.ask.kind] += 1
            causes[await cause(bench, each, decision, urls)] += 1
    exact = counts["equal"] + counts["differs"]
    found = [d for a in bench.answered if (d := decided.get(a.request_id)) and d.cached_tokens is not None]
    prompt = sum(each.prompt_tokens or 0 for each in found)
    return {
        "requests": len(bench.answered),
        "requests_while_exact": exact,
        "equal_percent": round(100 * counts["equal"] / max(1, exact), 2),
        "explained_exceptions": dict(causes),
        "exceptions_by_kind": dict(kinds),
        "not_exact_or_unknown": counts["not exact"] + counts["unknown"],
        "cut_by_the_kill": counts["cut"],
        "failed": counts["failed"],
        "hit_percent": round(100 * sum(each.cached_tokens or 0 for each in found) / max(1, prompt), 1),
        "evicted_blocks": sum(each.removed for each in bench.caches.values()),
    }


def _verdict(bench: Rig, answered: Answered, decision: Decision | None) -> str:
    if not answered.whole:
        return "cut" if decision is not None and decision.outcome == "engine broke off" else "failed"
    if decision is None or decision.pod is None or None in (decision.cached_tokens, decision.predicted_cached_tokens):
        return "unknown"
    if not bench.watched.was_exact(decision.pod, decided_at(decision)):
        return "not exact"
    return "equal" if decision.cached_tokens == decision.predicted_cached_tokens else "differs"


async def cause(bench: Rig, answered: Answered, decision: Decision, urls: Mapping[str, str]) -> str:
    """What the engine's own events say of the prompt between placement and answer."""
    assert decision.pod is not None
    prompt = await bench.token_ids(answered.ask, next(iter(urls.values())))
    seen = Misprediction(
        prompt,
        answered.ask.body.get("cache_salt"),
        decided_at(decision),
        answered.ended_at,
        decision.predicted_cached_tokens or 0,
        decision.cached_tokens or 0,
    )
    found = seen.cause(bench.caches[decision.pod])
    if found is None:
        print(f"unexplained: {answered.ask.kind} {seen}", file=sys.stderr)
    return found or "other"


async def new_blocks(bench: Rig) -> dict[str, object]:
    """Past the router, so that nothing but the engine's event can tell of a prompt: when is it credited?"""
    slowest = 0.0
    prompts = token_prompts(1000, PROBE_TOKENS)
    for worker, prompt in zip(itertools.cycle(await bench.workers()), itertools.islice(prompts, NEW_BLOCK_PROBES)):
        await bench.complete_at(worker.url, prompt)
        stored_at = time.time()
        probe = Ask("probe", "/v1/completions", {"model": NAME, "prompt": prompt, "max_tokens": 1})
        while not _credits(found := await _decision(bench, probe), worker.pod):
            assert time.time() - stored_at < 10, "a new block got no credit within 10 s"
        slowest = max(slowest, decided_at(found) - stored_at)
    return {"new_block_to_credit_at_most_s": round(max(0.0, slowest), 3)}


async def _decision(bench: Rig, ask: Ask) -> Decision:
    request_id = (await bench.send(ask)).request_id
    return (await bench.decided())[request_id]


async def cut_off(bench: Rig, blocked_s: float) -> dict[str, object]:
    """Requests that fail while no event passes, what the router says of it, and how soon all is exact again."""
    addresses = list(itertools.chain.from_iterable(bench.addresses.values()))
    async with AsyncExitStack() as stack:
        relays = await stack.enter_async_context(relayed(*addresses))
        await _router_begins_again(bench)
        bench.answered.clear()
        blocking = True
        load = asyncio.create_task(bench.load(iter(Mixture(NAME, seed=2)), CONCURRENCY // 2, lambda: blocking))
        for relay in relays:
            relay.block()
        told_s = await _until_told(bench)
        await asyncio.sleep(max(0.0, blocked_s - told_s))
        for relay in relays:
            relay.unblock()
        exact_s = await bench.until_exact()
        blocking = False
        await load
    failed = sum(not each.whole for each in bench.answered)
    return {
        "blocked_s": blocked_s,
        "blocked_requests": len(bench.answered),
        "blocked_failed": failed,
        "blocked_to_told_s": round(told_s, 1),
        "unblocked_to_exact_s": round(exact_s, 1),
    }


async def _router_begins_again(bench: Rig) -> None:
    """Killed, it comes back and connects anew, by the way that leads through the relays."""
    for pid in bench.pool.up.processes():
        if b"kvpool_router" in _command_line(pid):
            os.kill(pid, signal.SIGKILL)
    await eventually(lambda: _answers(bench), within_s=60)
    await bench.until_exact()


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


async def _answers(bench: Rig) -> bool:
    try:
        await bench.pool.state()
    except (OSError, ClientError):
        return False
    return True


async def _until_told(bench: Rig) -> float:
    """Seconds until no worker is called exact any more."""

    async def told() -> bool:
        return all(each.events is not EventState.EXACT for each in await bench.workers())

    return await eventually(told, within_s=30)


if __name__ == "__main__":
    main()

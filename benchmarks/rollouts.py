"""Does a client notice when engines leave? Streams in flight over scale-ins and rollouts of a pool in a real cluster.

`python -m benchmarks.rollouts [--quick] [--json]`. Full: 200 streams in flight over 20 scale-ins and 3 rollouts; quick:
40 over one of each, of which about half is the start of node, pool and streams. kvpool is installed as its guide says,
with the images of this checkout, into the cluster that KUBECONFIG names, or into a node started for it.

A stream is 30 tokens of a simulated engine, some 7 s; a new one follows each that has ended. Failed is every answer but
200 with all of its tokens and `[DONE]`: refused, broken off, an error event, a connection that could not be had.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field

from benchmarks.in_cluster import (
    POOLS,
    Kubectl,
    Streams,
    conditions,
    engines,
    kvpool_in_cluster,
    options,
    own_namespace,
    pool,
    simulated,
    streaming,
    until,
    wait_until_ready,
)

TOKENS = 30
ENGINES = 2
SPEED = ["--sim-speed", "0.05"]


@dataclass(frozen=True)
class Size:
    streams: int
    scale_ins: int
    rollouts: int


FULL, QUICK = Size(200, 20, 3), Size(40, 1, 1)


@dataclass
class Seen:
    """What the streams' Pod told while the pool changed."""

    streams: Streams
    in_flight: list[int] = field(default_factory=list)
    scale_in_s: list[float] = field(default_factory=list)
    rollout_s: list[float] = field(default_factory=list)

    def look(self) -> None:
        self.in_flight.append(int(self.streams.told()["in_flight"]))


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.rollouts", description="Does a client notice when engines leave?")
    parser.add_argument("--quick", action="store_true", help="40 streams, 1 scale-in, 1 rollout")
    given = options(parser)
    with kvpool_in_cluster() as kubectl:
        found = measured(kubectl, QUICK if given.quick else FULL)
    for name, value in found.items():
        print(f"{name:34s} {value:>12.4g}")
    if given.json:
        print(json.dumps(found))


def measured(kubectl: Kubectl, size: Size) -> dict[str, float]:
    with own_namespace(kubectl) as here:
        asks(here, ENGINES, 0)
        wait_until_ready(here)
        begun = time.monotonic()
        with streaming(here, "http://qwen", size.streams, TOKENS) as streams:
            seen = Seen(streams)
            for _ in range(size.scale_ins):
                changed(here, seen, ENGINES + 1, 0)
                seen.scale_in_s.append(changed(here, seen, ENGINES, 0))
            for turn in range(size.rollouts):
                seen.rollout_s.append(changed(here, seen, ENGINES, turn + 1))
            told = streams.end()
        for words in told["failed"]:
            print(f"failed: {words}")
        return {
            "streams_in_flight": size.streams,
            "in_flight_median": statistics.median(seen.in_flight),
            "scale_ins": len(seen.scale_in_s),
            "rollouts": len(seen.rollout_s),
            "streams_ok": told["ok"],
            "streams_failed_or_cut": told["failures"],
            "scale_in_median_s": statistics.median(seen.scale_in_s),
            "rollout_median_s": statistics.median(seen.rollout_s),
            "whole_s": time.monotonic() - begun,
        }


def asks(kubectl: Kubectl, replicas: int, turn: int) -> None:
    engine = {"image": simulated(), "args": [*SPEED, "--max-num-seqs", str(256 + turn)]}
    kubectl.apply(pool("qwen", replicas=replicas, engine=engine))


def changed(kubectl: Kubectl, seen: Seen, replicas: int, turn: int) -> float:
    """Seconds until the pool is as asked."""
    begun = time.monotonic()
    asks(kubectl, replicas, turn)

    def is_done() -> bool:
        seen.look()
        told = kubectl.get(POOLS, "qwen")
        progressing = conditions(kubectl, "qwen")["Progressing"]
        return (
            len(engines(kubectl, "qwen")) == replicas == told["status"].get("routableReplicas")
            and progressing["status"] == "False"
            and progressing["observedGeneration"] == told["metadata"]["generation"]
        )

    until(is_done, within_s=180, otherwise=lambda: conditions(kubectl, "qwen"))
    return time.monotonic() - begun


if __name__ == "__main__":
    main()

"""How long from `kubectl apply` of a pool to Ready=True, in a real cluster that has the images, and whose time is it?

Two simulated engines and a router, on a node that is started for it and stopped after it (or the cluster that
KUBECONFIG names). Each run is parted where the next one takes over, so that the parts add up to the whole:

    apply ── operator makes Pods ── scheduler, kubelet ── processes start, probes ── operator tells Ready
          to_pods                 to_running            to_answering               to_told

Every time is when a watch has told of the change.
"""

import argparse
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.in_cluster import POOLS, Kubectl, kvpool_in_cluster, options, pool

RUNS, ENGINES, PODS = 5, 2, 3
BAR_S = 20
LIMIT_S = 120


@dataclass
class Seen:
    """When which Pod first was made, ran and answered, and when the pool first was Ready."""

    made: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    answering: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)

    def take(self, found: Mapping[str, Any]) -> None:
        name, now, status = found["metadata"]["name"], time.monotonic(), found.get("status", {})
        true = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
        if found["kind"] != "Pod":
            if "Ready" in true:
                self.ready.setdefault(name, now)
            return
        self.made.setdefault(name, now)
        containers = status.get("containerStatuses", [])
        if containers and all("running" in each["state"] for each in containers):
            self.running.setdefault(name, now)
        if "ContainersReady" in true:
            self.answering.setdefault(name, now)


@contextmanager
def watching(kubectl: Kubectl, kind: str, seen: Seen) -> Iterator[None]:
    """In one namespace; what comes is stamped by a thread."""
    argv = kubectl.argv("get", kind, "--watch", "--output", "json")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=_read, args=(process, seen))
        reader.start()
        try:
            yield
        finally:
            process.kill()
            reader.join()


def _read(process: subprocess.Popen[str], seen: Seen) -> None:
    """kubectl prints one indented object after the other."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            seen.take(json.loads("".join(lines)))
            lines.clear()


def run(kubectl: Kubectl, number: int) -> dict[str, float]:
    """Seconds of each part, in a namespace of its own."""
    inside = replace(kubectl, namespace=f"bench-{number}")
    kubectl("create", "namespace", inside.namespace)
    seen = Seen()
    try:
        with watching(inside, "pods", seen), watching(inside, POOLS, seen):
            begun = time.monotonic()
            inside.apply(pool("qwen", replicas=ENGINES))
            while not seen.ready:
                assert time.monotonic() < begun + LIMIT_S, inside("describe", POOLS)
                time.sleep(0.02)
    finally:
        kubectl("delete", "namespace", inside.namespace, "--wait=false")
    assert len(seen.made) == PODS
    steps = [begun, *(max(each.values()) for each in (seen.made, seen.running, seen.answering)), seen.ready["qwen"]]
    parts = [after - before for before, after in pairwise(steps)]
    return {"whole": steps[-1] - begun, **dict(zip(PARTS, parts, strict=True))}


PARTS = {
    "to_pods": "ours: the operator hears of the pool and makes what it needs",
    "to_running": "scheduler and kubelet: Pods get a node, containers start",
    "to_answering": "processes start; their probes pass (the router's waits for an engine)",
    "to_told": "ours: the operator hears of it and says Ready",
}


def measure(runs: int) -> list[dict[str, float]]:
    with kvpool_in_cluster() as kubectl:
        return [run(kubectl, number) for number in range(runs)]


def figures(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Medians; the parts of the run in the middle, so that they add up to its whole."""
    middle = sorted(runs, key=lambda each: each["whole"])[len(runs) // 2]
    ours = middle["to_pods"] + middle["to_told"]
    return {
        "apply_to_ready_p50_s": statistics.median(each["whole"] for each in runs),
        "apply_to_ready_worst_s": max(each["whole"] for each in runs),
        **{f"{name}_s": middle[name] for name in PARTS},
        "operators_share_s": ours,
        "operators_share_percent": 100 * ours / middle["whole"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one run instead of five")
    wanted = options(parser)
    found = {name: round(value, 2) for name, value in figures(measure(1 if wanted.quick else RUNS)).items()}
    table = Table("figure", "value", "what", title=f"A pool of {ENGINES} simulated engines and a router")
    told = {"apply_to_ready_p50_s": f"bar: {BAR_S}", **{f"{name}_s": words for name, words in PARTS.items()}}
    for name, value in found.items():
        table.add_row(name, f"{value:,}", told.get(name, ""))
    Console().print(table)
    if wanted.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

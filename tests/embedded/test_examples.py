"""Every example is applied, and serves the load that it names as well as it says."""

import asyncio
import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from up_process import free_port, up, write

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
LOAD = "example.kvpool.dev/load"
EXPECTED = "example.kvpool.dev/expect-hit-percent-at-least"


def on_this_machine(example, folder):
    """The example as it is, except that a model folder of the user's is one of the test's."""
    pools = list(yaml.safe_load_all(example.read_text()))
    for pool in pools:
        source = pool["spec"]["model"].get("source", {})
        if "path" in source:
            source["path"] = str(folder)
    return write(folder / example.name, *pools)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_an_example_serves_its_load_with_the_hit_rate_that_it_promises(example, tmp_path):
    (pool,) = yaml.safe_load_all(example.read_text())
    annotations = pool["metadata"]["annotations"]
    bench = [sys.executable, "-m", "kvpool_cli.main", "bench", *shlex.split(annotations[LOAD]), "--json"]
    command = f"cd {shlex.quote(str(ROOT))} && {shlex.join(bench)} 2>/dev/null"
    words = ("--once-ready", command, "--quiet", "--port", str(free_port(27_000)))
    async with up(on_this_machine(example, tmp_path), *words, pool=pool["metadata"]["name"]) as started:
        async with asyncio.timeout(90):
            assert await started.process.wait() == 0, started.said()
    found = json.loads(started.said().strip().splitlines()[-1])
    assert found["errors"] == 0
    assert found["hit_percent"] >= int(annotations[EXPECTED]), found
    assert found["predicted_equals_cached_percent"] >= 90

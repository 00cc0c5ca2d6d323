"""`kubectl kvpool` with routers to ask, by a user who has the rights that its page names and no other."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from install_manifests import ROOT
from kubectl import Kubectl, own_namespace
from pools_in_cluster import SMALL_ROUTER, Client, pool, wait_until_ready

PROMPT = "You answer in one word. " * 60


@pytest.fixture(scope="module")
def kubectl(operator_in_cluster: Kubectl) -> Iterator[Kubectl]:
    """Where pool `qwen` has two routers and a client."""
    with own_namespace(operator_in_cluster) as inside:
        inside.apply(pool("qwen", replicas=1, router={**SMALL_ROUTER, "replicas": 2}))
        wait_until_ready(inside, "qwen")
        yield inside


@pytest.fixture(scope="module")
def ids(kubectl: Kubectl) -> list[str]:
    """Of answers, which either router has brought."""
    client = Client(kubectl)
    client.start()
    answers = client.complete(f"http://qwen.{kubectl.namespace}", [f"{PROMPT} {turn}" for turn in range(12)])
    return [answer["id"] for answer in answers]


@pytest.fixture(scope="module")
def viewer(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of a user with the page's Role."""
    (role,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "kubectl-kvpool.md").read_text(), re.M | re.S)
    kubectl.apply(yaml.safe_load(role))
    kubectl("create", "serviceaccount", "viewer")
    kubectl("create", "rolebinding", "viewer", "--role=kvpool-viewer", f"--serviceaccount={kubectl.namespace}:viewer")
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", "viewer").strip()}
    file = tmp_path_factory.mktemp("viewer") / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
def kvpool(kubectl: Kubectl, viewer: Path) -> Callable[..., str]:
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "KUBECONFIG": str(viewer)}

    def kvpool(*words: str) -> str:
        argv = [kubectl.program, "kvpool", *words, "-n", kubectl.namespace]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **path})
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return kvpool


def test_a_pool_is_shown_with_the_sums_of_its_routers(kvpool, ids):
    (told,) = json.loads(kvpool("status", "qwen", "--json"))
    assert (told["standing"], told["causes"], told["notes"]) == ("ready", [], [])
    assert (told["requests"], told["errors"]) == (len(ids), 0)
    assert [(line["state"], line["events"]) for line in told["workers"]] == [("ready", "EXACT")]
    assert told["served"]["hit_percent"] > 50
    assert f"{len(ids)} requests in 5 min, 0 failed" in kvpool("status")


def test_every_request_is_explained_whichever_router_placed_it(kvpool, ids):
    told = json.loads(kvpool("explain", "--json", "--last", "50"))
    assert sorted(f"cmpl-{decision['requestId']}" for decision in told) == sorted(ids)
    assert all(decision["outcome"] == "ok" and len(decision["candidates"]) == 1 for decision in told)
    shown = kvpool("explain", ids[-1])
    assert ids[-1].removeprefix("cmpl-") in shown
    assert "cost ms = queued + load + own + decode + imposed cached predicted" in shown
    assert "by CacheAware: least cost" in shown

"""What the guide promises: install it, apply a pool, and requests to its Service are answered, cached and counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from install_manifests import NAMESPACE, ROOT
from kubectl import Kubectl, Refused, own_namespace, until
from pools_in_cluster import MODEL, POOLS, SMALL_ROUTER, Client, conditions, engines, pool, simulated, wait_until_ready

LLAMA, OTHER = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B"
PROMPTS = [f"{'You answer in one word. ' * 60} Question {number % 4}." for number in range(24)]
"""Some 360 tokens each: beginnings shared by all, and each said six times."""
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@dataclass(frozen=True)
class World:
    """Two pools in one namespace, and in another one a pool with the name of one of these."""

    kubectl: Kubectl
    elsewhere: Kubectl
    client: Client


@pytest.fixture(scope="module")
def world(operator_in_cluster: Kubectl) -> Iterator[World]:
    with own_namespace(operator_in_cluster) as here, own_namespace(operator_in_cluster) as elsewhere:
        here.apply(pool("qwen", replicas=2), pool("llama", LLAMA))
        elsewhere.apply(pool("qwen", OTHER))
        client = Client(here)
        client.start()
        for kubectl in (here, elsewhere):
            wait_until_ready(kubectl)
        yield World(here, elsewhere, client)


@pytest.fixture(scope="module")
def answers(world: World) -> list[dict[str, Any]]:
    """Of PROMPTS, sent to the pool of two engines by its full DNS name."""
    return world.client.complete(f"http://qwen.{world.kubectl.namespace}.svc.cluster.local", PROMPTS)


def test_the_installed_operator_runs_under_the_restricted_level_and_has_said_no_error(operator_in_cluster: Kubectl):
    kubectl = operator_in_cluster
    labels = kubectl.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    (operator,) = kubectl.get("pods", "--namespace", NAMESPACE)["items"]
    (container,) = operator["status"]["containerStatuses"]
    assert container["restartCount"] == 0
    said = kubectl("logs", "--namespace", NAMESPACE, operator["metadata"]["name"]).splitlines()
    assert [line for line in said if '"level": "error"' in line or not line.startswith("{")] == []


def test_every_condition_says_that_the_pool_is_well(world: World):
    found = conditions(world.kubectl, "qwen")
    assert {kind: (each["status"], each["reason"]) for kind, each in found.items()} == {
        "Accepted": ("True", "Accepted"),
        "WorkloadReady": ("True", "EnginesServe"),
        "RouterReady": ("True", "RoutersReady"),
        "KVEventsFlowing": ("True", "Exact"),
        "ScalingActive": ("False", "Manual"),
        "Paused": ("False", "NotPaused"),
        "Progressing": ("False", "AsAsked"),
        "Degraded": ("False", "AsAsked"),
        "Ready": ("True", "Ready"),
    }
    assert found["KVEventsFlowing"]["message"] == "the map of 2 workers is exact"
    assert {each["observedGeneration"] for each in found.values()} == {1}


def test_nothing_but_our_labels_and_rights_stands_on_what_the_user_made(world: World):
    metadata = world.kubectl.get(POOLS, "qwen")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata


def test_requests_by_the_services_name_are_answered_and_mostly_from_cache(answers: list[dict[str, Any]]):
    assert len({answer["id"] for answer in answers}) == len(PROMPTS)
    assert all(answer["choices"][0]["text"] for answer in answers)
    assert answers[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_the_hit_rate_shown_is_what_the_engines_have_counted(world: World, answers: list[dict[str, Any]]):
    pods = engines(world.kubectl, "qwen")
    prompt, cached = (world.client.counted(pods, f"vllm:prompt_tokens{kind}_total") for kind in ("", "_cached"))
    assert prompt == sum(answer["usage"]["prompt_tokens"] for answer in answers) > 1000
    true = f"{100 * cached / prompt:.0f}"
    assert 0 < int(true) < 100

    def shown() -> str:
        return world.kubectl("get", POOLS, "qwen", "--output", "jsonpath={.status.cache.hitPercent}")

    until(lambda: shown() == true, within_s=45, otherwise=lambda: f"{true} is true, {shown()} is shown")
    cache = world.kubectl.get(POOLS, "qwen")["status"]["cache"]
    assert (cache["predictedPercent"], cache["queue"]) == (int(true), 0), "events are exact, so predictions are"


@pytest.mark.usefixtures("answers")
def test_pools_side_by_side_and_of_one_name_keep_to_their_own_engines(world: World):
    doors = {
        f"http://qwen.{world.kubectl.namespace}.svc": MODEL,
        "http://llama": LLAMA,
        f"http://qwen.{world.elsewhere.namespace}": OTHER,
    }
    for url, model in doors.items():
        served = yaml.safe_load(world.client.fetch(f"{url}/v1/models"))["data"]
        assert [each["id"] for each in served] == [model]
    others = [*engines(world.kubectl, "llama"), *engines(world.elsewhere, "qwen")]
    assert world.client.counted(others, "vllm:prompt_tokens_total") == 0
    (answer,) = world.client.complete("http://llama", ["Hello"], LLAMA)
    assert world.client.counted(others, "vllm:prompt_tokens_total") == answer["usage"]["prompt_tokens"]


GATEWAYS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "inferencepools.inference.networking.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, experimental-only"},
    },
    "spec": {
        "group": "inference.networking.k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "InferencePool", "plural": "inferencepools", "singular": "inferencepool"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
"""The Gateway API Inference Extension's own InferencePool, as far as it matters here: group and names."""
GATEWAYS_POOL = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "theirs"},
    "spec": {"selector": {"matchLabels": {"kvpool.dev/pool": "qwen"}}, "targetPorts": [{"number": 8000}]},
}


@pytest.fixture
def gateways_pools(world: World) -> Iterator[None]:
    crd = GATEWAYS["metadata"]["name"]
    world.kubectl.apply(GATEWAYS)
    try:
        world.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s")
        until(lambda: crd in world.kubectl("api-resources", "--output", "name"))
        world.kubectl.apply(GATEWAYS_POOL)
        yield
    finally:
        world.kubectl("delete", "crd", crd)


@pytest.mark.usefixtures("gateways_pools")
def test_beside_the_gateway_apis_inferencepools_the_full_name_means_ours(world: World):
    theirs = world.kubectl("get", "inferencepools.inference.networking.k8s.io", "--output", "name")
    assert theirs.split() == ["inferencepool.inference.networking.k8s.io/theirs"]
    ours = [f"inferencepool.kvpool.dev/{name}" for name in ("llama", "qwen")]
    for ours_alone in (POOLS, "kvp", "kvpool"):
        assert world.kubectl("get", ours_alone, "--output", "name").split() == ours
    world.kubectl("scale", POOLS, "llama", "--replicas=2")
    until(lambda: world.kubectl.get(POOLS, "llama")["status"].get("routableReplicas") == 2)


def for_a_node_without_gpus(example: Path) -> dict[str, Any]:
    """The example with simulated engines: their image, no GPUs, only CPU and memory that is there, no weights.

    The simulated engine brings its tokenizer; everything else stays as the example has it.
    """
    told: dict[str, Any] = yaml.safe_load(example.read_text())
    spec = told["spec"]
    spec["engine"] = {**spec.get("engine", {}), "image": simulated()}
    spec["router"] = {**spec.get("router", {}), **SMALL_ROUTER}
    spec["model"].pop("source", None)
    spec.pop("resources", None)
    if "cpuOffload" in spec["engine"]:
        spec["engine"]["cpuOffload"] = {"size": "64Mi"}
        spec["resources"] = {"limits": {"memory": "1Gi"}}
    return told


@pytest.fixture(scope="module")
def examples(operator_in_cluster: Kubectl) -> Iterator[Client]:
    """All of them in one namespace."""
    with own_namespace(operator_in_cluster) as kubectl:
        kubectl.apply(*map(for_a_node_without_gpus, EXAMPLES))
        client = Client(kubectl)
        client.start()
        yield client


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_becomes_ready_and_answers(example: Path, examples: Client):
    told = for_a_node_without_gpus(example)
    name, model = told["metadata"]["name"], told["spec"]["model"]["name"]
    wait_until_ready(examples.kubectl, name, within_s=150)
    (answer,) = examples.complete(f"http://{name}", ["Hello"], model)
    assert answer["model"] == model

    def map_is_exact() -> bool:
        return conditions(examples.kubectl, name)["KVEventsFlowing"]["reason"] == "Exact"

    until(map_is_exact, otherwise=lambda: conditions(examples.kubectl, name))
    status = examples.kubectl.get(POOLS, name)["status"]
    assert status["desiredReplicas"] == told["spec"]["replicas"]


def test_every_example_is_one_that_a_cluster_with_gpus_would_take_as_it_is(operator_in_cluster: Kubectl):
    for example in EXAMPLES:
        operator_in_cluster("apply", "--dry-run=server", "--filename", str(example))


def test_a_pool_that_breaks_a_rule_is_refused_with_the_mend(operator_in_cluster: Kubectl):
    with pytest.raises(Refused, match="'--port' would part the engine from its router; remove it"):
        operator_in_cluster.apply(pool("wrong", engine={"args": ["--port", "1"]}))

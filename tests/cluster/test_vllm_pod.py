"""Real vLLM in a real cluster: one engine Pod on CPU, made by the operator, followed by a router, asked through DNS.

No image of vLLM is built: the Pod takes the environment of the ring `vllm` from the node, with the Python of an image
that has the same one, and the one library that the image lacks. Where there is no such environment, or the node is not
this machine, the test is left out.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environment import MODEL as FOLDER
from environment import environment_folder, is_prepared
from kubectl import Kubectl, own_namespace
from kvnode.node import Node
from pools_in_cluster import SMALL_ROUTER, Client, conditions, engines, pool, simulated, wait_until_ready

NAME, SERVED = "real", "tiny-llama"
VLLM, NUMA = "/opt/vllm", "/opt/numa"
STARTS_WITHIN_S = 240
PROMPT = "The engines of a pool share prompts but not memory, so each keeps the prefixes that it has seen. " * 20
PACKAGES = f"{VLLM}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
ENVIRONMENT = {
    "PYTHONPATH": PACKAGES,
    "LD_LIBRARY_PATH": NUMA,
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def real_engine() -> dict[str, Any]:
    """A pool of one."""
    container = {
        "name": "engine",
        "command": ["/usr/bin/python3", "-m", "vllm.entrypoints.openai.api_server", "--model"],
        "volumeMounts": [
            {"name": "vllm", "mountPath": VLLM, "readOnly": True},
            {"name": "numa", "mountPath": f"{NUMA}/libnuma.so.1", "readOnly": True},
        ],
    }
    library = next(Path("/usr/lib").glob("*/libnuma.so.1")).resolve()
    volumes = [
        {"name": "vllm", "hostPath": {"path": str(environment_folder()), "type": "Directory"}},
        {"name": "numa", "hostPath": {"path": str(library), "type": "File"}},
    ]
    return pool(
        NAME,
        model={"name": SERVED, "source": {"path": str(FOLDER)}},
        engine={
            "image": simulated(),
            "blockSize": 32,
            "args": ["--enforce-eager", "--max-model-len", "4096"],
            "env": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
        },
        resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        router={**SMALL_ROUTER, "replicas": 1},
        podTemplate={"spec": {"containers": [container], "volumes": volumes}},
    )


@pytest.fixture(scope="module")
def kubectl(own_node: Node, operator_in_cluster: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace with that pool, Ready, and a client."""
    if not is_prepared():
        pytest.skip("real vLLM is not installed on this machine; `make test RING=vllm` brings it")
    with own_namespace(operator_in_cluster) as inside:
        inside.apply(real_engine())
        Client(inside).start()
        wait_until_ready(inside, NAME, within_s=STARTS_WITHIN_S)
        yield inside


@pytest.mark.timeout(STARTS_WITHIN_S + 120)
def test_an_engine_pod_of_real_vllm_is_followed_exactly_and_its_cache_is_credited(kubectl: Kubectl):
    found = conditions(kubectl, NAME)["KVEventsFlowing"]
    assert (found["status"], found["reason"]) == ("True", "Exact")
    assert len(engines(kubectl, NAME)) == 1

    url, client = f"http://{NAME}.{kubectl.namespace}.svc.cluster.local", Client(kubectl)
    answers = client.complete(url, [PROMPT, PROMPT, PROMPT], SERVED)
    cached = [each["usage"]["prompt_tokens_details"]["cached_tokens"] for each in answers]
    assert cached[0] == 0
    assert cached[1] == cached[2] == (answers[0]["usage"]["prompt_tokens"] - 1) // 32 * 32 > 0
    told = {
        name: float(value) for name, value in re.findall(r"^(\w+_total) (\S+)$", client.fetch(f"{url}/metrics"), re.M)
    }
    assert (
        told["kvpool_router_predicted_cached_tokens_total"] == told["kvpool_router_cached_tokens_total"] == sum(cached)
    )

"""What keeps a pool from serving is told by its conditions: the cause, whose words, the mend. Each happens for real."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubectl import Kubectl, own_namespace, until
from pools_in_cluster import POOLS, Client, conditions, pool, simulated, wait_until_ready

NO_ROUTER = {"image": "localhost/kvpool/pause:1", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}
"""Fifteen routers that start at once would be most of what a small node does here; these pools get no request."""
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"
GATED = (
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url https://huggingface.co/m"
)
FLAG = "vllm serve: error: unrecognized arguments: --max-modellen 100"
LEAVES_AT_ONCE = {"preStopSeconds": 0, "shutdownTimeoutSeconds": 0}


def engine(program: str, **container: object) -> dict[str, Any]:
    """A podTemplate whose engine runs this instead of an engine."""
    return {"spec": {"containers": [{"name": "engine", "command": ["python", "-c", program], **container}]}}


def that_prints(text: str) -> dict[str, Any]:
    return engine(f"import sys; print('INFO starting', file=sys.stderr); sys.exit({text!r})")


def beside(program: str) -> dict[str, Any]:
    """An engine with a container beside it that runs the program."""
    container = {"name": "licence", "image": simulated(), "command": ["python", "-u", "-c", f"import sys; {program}"]}
    return {"spec": {"containers": [container]}}


@dataclass(frozen=True)
class Failure:
    """A spec that fails, and what is told of it."""

    reason: str
    message: str
    """A pattern: what stands behind 'no request can be served; '. {pod} is the engine's name."""
    spec: dict[str, Any] = field(default_factory=dict)


FAILURES = {
    "no-gpu": Failure(
        "Unschedulable",
        r"{pod}: 0/\d+ nodes are available: .*Insufficient nvidia.com/gpu.*; add nodes, or ask for less \(spec",
        {"resources": {"limits": {"nvidia.com/gpu": 2}}},
    ),
    "no-image": Failure(
        "ImagePullBackOff",
        r'{pod}: .*"localhost/kvpool/engine-sim:none".*; check the image\'s name, and that the node may pull it',
        {"engine": {"image": "localhost/kvpool/engine-sim:none"}},
    ),
    "crash": Failure(
        "CrashLoop",
        r"{pod}: ended with exit code 1, (not restarted yet|restarted .*): the moon is in the wrong phase",
        {"podTemplate": that_prints("the moon is in the wrong phase")},
    ),
    "memory": Failure(
        "OOMKilled",
        r"{pod}: the kernel killed it at its memory limit, (not restarted yet|restarted .*); raise that limit",
        {
            "podTemplate": engine("held = [bytearray(2**20) for _ in range(200)]"),
            "resources": {"limits": {"memory": "64Mi"}},
        },
    ),
    "sidecar": Failure(
        "CrashLoop",
        r"{pod} \(licence\): ended with exit code 3, (not restarted yet|restarted .*): no licence for this host",
        {"podTemplate": beside("print('asking'); print('no licence for this host'); sys.exit(3)")},
    ),
    "cuda": Failure(
        "CudaOutOfMemory",
        f"{{pod}}: {re.escape(CUDA)}; give the engine more GPU memory, or lower --gpu-memory-utilization or"
        " --max-model-len in spec.engine.args",
        {"podTemplate": that_prints(CUDA)},
    ),
    "gated": Failure(
        "ModelAccessDenied",
        f"{{pod}}: {re.escape(GATED)}; name a Secret with a token that may read it in spec.model.source.hub.secretRef",
        {"podTemplate": that_prints(GATED)},
    ),
    "flag": Failure(
        "UnrecognizedArguments",
        f"{{pod}}: {re.escape(FLAG)}; mend spec.engine.args, or choose an image that knows them",
        {"podTemplate": that_prints(FLAG)},
    ),
    "mute": Failure(
        "StartupTimeout",
        r"{pod}: not ready within 10 s and ended for that, (not restarted yet|restarted .*);"
        r" raise spec.engine.startupTimeoutSeconds, or keep weights near \(spec.model.cache\) .*",
        {
            "engine": {"image": simulated(), "startupTimeoutSeconds": 10},
            "drain": LEAVES_AT_ONCE,
            "podTemplate": engine("import signal; signal.sigwait([signal.SIGTERM])"),
        },
    ),
    "no-secret": Failure(
        "CreateContainerConfigError",
        r'{pod}: secret "hub-token" not found; make the Secret or ConfigMap that is named, or name another',
        {"model": {"name": "m", "source": {"hub": {"secretRef": {"name": "hub-token"}}}}},
    ),
    "no-claim": Failure(
        "FailedMount",
        r'{pod}: .*persistentvolumeclaim "weights" not found; make what is missing, or mend its name in the spec',
        {"model": {"name": "m", "source": {"persistentVolumeClaim": {"claimName": "weights"}}}},
    ),
    "no-template": Failure(
        "FailedMount",
        r'{pod}: .*configmap "chat" not found; make what is missing, or mend its name in the spec',
        {"model": {"name": "m", "chatTemplate": {"name": "chat", "key": "template.jinja"}}},
    ),
}


@pytest.fixture(scope="module")
def failing(operator_in_cluster: Kubectl) -> Iterator[Kubectl]:
    """All of them side by side."""
    with own_namespace(operator_in_cluster) as kubectl:
        kubectl.apply(*(pool(name, "m", **{"router": NO_ROUTER} | told.spec) for name, told in FAILURES.items()))
        yield kubectl


def told_of(kubectl: Kubectl, name: str, reason: str, message: str) -> bool:
    found = conditions(kubectl, name).get("Ready", {"reason": "", "message": ""})
    pattern = message.replace("{pod}", rf"{name}-[0-9a-f]{{8}}-0")
    fits = re.fullmatch(reason, found["reason"]) and re.search(
        f"no request can be served; {pattern}$", found["message"]
    )
    return bool(fits)


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_told_with_its_cause(name: str, failing: Kubectl):
    told = FAILURES[name]
    until(
        lambda: told_of(failing, name, told.reason, told.message + ".*"),
        within_s=120,
        otherwise=lambda: json.dumps(conditions(failing, name).get("Ready"), indent=2),
    )
    found = conditions(failing, name)
    assert (found["Ready"]["status"], found["Degraded"]["status"]) == ("False", "True")
    assert found["Accepted"]["status"] == "True"
    shown = failing("get", POOLS, name, "--no-headers").split()
    assert re.fullmatch(told.reason, shown[-2]), "the column WHY is Ready's reason"


def test_a_cause_is_one_event_and_not_one_a_restart(failing: Kubectl):
    def told() -> list[str]:
        return [event for event in failing.events("crash") if "is True" in event or "is False" in event]

    until(told, within_s=120)
    assert re.fullmatch("CrashLoop: Degraded is True: .* the moon is in the wrong phase", told()[0])
    assert len(told()) == 1


@pytest.mark.parametrize("pods", [0, 2], ids=["for-any-pod", "for-a-router"])
def test_a_quota_that_leaves_no_room_is_told_and_room_that_is_made_is_used(pods: int, operator_in_cluster: Kubectl):
    """With two engines wanted and room for two Pods, either a router or an engine finds none: whichever comes last."""
    with own_namespace(operator_in_cluster) as kubectl:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
        kubectl.apply({**quota, "spec": {"hard": {"pods": str(pods)}}})
        until(lambda: kubectl.get("resourcequota", "few").get("status", {}).get("used"))
        kubectl.apply(pool("over", "m", replicas=2))
        said = (
            rf'pods "over-[-0-9a-z]+" is forbidden: exceeded quota: few, requested: pods=1, used: pods={pods}, limited:'
            rf" pods={pods}; raise the namespace's ResourceQuota, or lower spec.(router.)?replicas"
        )

        def refused() -> bool:
            found = conditions(kubectl, "over").get("Ready", {"reason": "", "message": ""})
            return found["reason"] == "QuotaExceeded" and bool(re.search(said, found["message"]))

        until(refused, otherwise=lambda: conditions(kubectl, "over").get("Ready"))
        kubectl.apply({**quota, "spec": {"hard": {"pods": "9"}}})
        wait_until_ready(kubectl)


def test_a_secret_that_comes_later_ends_the_trouble_without_any_other_hand(operator_in_cluster: Kubectl):
    with own_namespace(operator_in_cluster) as kubectl:
        source = {"hub": {"secretRef": {"name": "hub-token"}}}
        kubectl.apply(pool("qwen", "m", model={"name": "m", "source": source}))
        until(lambda: conditions(kubectl, "qwen").get("Ready", {}).get("reason") == "CreateContainerConfigError")
        kubectl("create", "secret", "generic", "hub-token", "--from-literal=token=hf_none")
        wait_until_ready(kubectl)
        client = Client(kubectl)
        client.start()
        assert client.complete("http://qwen", ["Hello"], "m")

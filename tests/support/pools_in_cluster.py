"""kvpool in a real cluster as users have it: images, `kubectl apply -k`, pools of simulated engines, a client Pod."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from install_manifests import NAMESPACE, ROOT
from kubectl import Kubectl, until
from kvnode import cluster, own_images

MODEL = "Qwen/Qwen3-32B"
POOLS = "inferencepools.kvpool.dev"
SMALL_ROUTER = {"replicas": 1, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
"""One, and small: what a router asks for by default, two cores hold three times."""


def simulated() -> str:
    """The image of the simulated engine."""
    return own_images.named("engine-sim")


def load_images(kubeconfig: Path) -> None:
    """The images of this checkout, by its Dockerfiles, into the cluster."""
    for archive in own_images.archives():
        cluster.named(kubeconfig).load(archive)


@contextmanager
def installed(kubectl: Kubectl, folder: Path, *, stays: bool = False) -> Iterator[None]:
    """The operator serves in the block, installed by the overlay that the guide shows; then nothing of it is left.

    `stays`: the whole cluster goes next, so nothing need be taken out of it.
    """
    overlay = own_overlay(folder)
    install(kubectl, overlay)
    try:
        until(lambda: _operator_serves(kubectl), within_s=90, otherwise=lambda: _operators_pods(kubectl))
        yield
    finally:
        if not stays:
            uninstall(kubectl, overlay)


@contextmanager
def uninstalled(kubectl: Kubectl, folder: Path) -> Iterator[None]:
    """What `installed` has installed is away in the block, as by its end, and back after it."""
    overlay = own_overlay(folder)
    uninstall(kubectl, overlay)
    try:
        yield
    finally:
        install(kubectl, overlay)
        until(lambda: _operator_serves(kubectl), within_s=90, otherwise=lambda: _operators_pods(kubectl))


def own_overlay(folder: Path) -> Path:
    """Names the images of this checkout."""
    (folder / "kvpool").symlink_to(ROOT)
    overlay = folder / "mine"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(overlay_of_the_guide(f"{own_images.registry()}/", own_images.tag()))
    return overlay


def install(kubectl: Kubectl, overlay: Path) -> None:
    kubectl("apply", "--kustomize", str(overlay))


def uninstall(kubectl: Kubectl, overlay: Path) -> None:
    """Everything, the CRD with every pool among it."""
    kubectl("delete", "--kustomize", str(overlay), "--timeout=90s", timeout_s=100)


def _operator_serves(kubectl: Kubectl) -> bool:
    status = kubectl.get("deployment", "kvpool-operator", "--namespace", NAMESPACE).get("status", {})
    return bool(status.get("availableReplicas"))


def _operators_pods(kubectl: Kubectl) -> str:
    return kubectl("describe", "pods", "--namespace", NAMESPACE)


def overlay_of_the_guide(registry: str, tag: str) -> str:
    """docs/install.md shows one, for a registry of the reader's own."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/install.md").read_text(), re.M | re.S)
    (shown,) = (block for block in blocks if "replacements:" in block)
    told = re.sub(r"newName: \S*?kvpool/operator", f"newName: {registry}kvpool/operator", shown)
    return re.sub(r"newTag: [^\s}]+", f"newTag: {tag}", told)


def pool(name: str, served: str = MODEL, **spec: object) -> dict[str, Any]:
    """An InferencePool of simulated engines, with a router that leaves room for others on a small node."""
    usual = {"model": {"name": served}, "engine": {"image": simulated()}, "router": SMALL_ROUTER}
    kind = {"apiVersion": "kvpool.dev/v1alpha1", "kind": "InferencePool"}
    return {**kind, "metadata": {"name": name}, "spec": usual | spec}


def wait_until_ready(kubectl: Kubectl, *names: str, within_s: int = 90) -> None:
    """Without names: all pools of the namespace."""
    which = [f"{POOLS}/{name}" for name in names] if names else [POOLS, "--all"]
    kubectl("wait", "--for=condition=Ready", *which, f"--timeout={within_s}s", timeout_s=within_s + 10)


def conditions(kubectl: Kubectl, name: str) -> dict[str, dict[str, Any]]:
    """By type; empty before the operator's first visit."""
    status = kubectl.get(POOLS, name).get("status", {})
    return {each["type"]: each for each in status.get("conditions", [])}


def engines(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    """Pods."""
    found: list[dict[str, Any]] = kubectl.get("pods", "-l", f"kvpool.dev/pool={name},kvpool.dev/role=engine")["items"]
    return found


COMPLETE = """
import json, sys, urllib.request
url, told, answers = sys.argv[1], json.loads(sys.argv[2]), []
for prompt in told["prompts"]:
    body = json.dumps({"model": told["model"], "prompt": prompt, "max_tokens": 4}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answers.append({"id": answer.headers["x-request-id"], **json.load(answer)})
print(json.dumps(answers))
"""
FETCH = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
    sys.stdout.write(answer.read().decode())
"""


@dataclass(frozen=True)
class Client:
    """A Pod in the cluster, from which requests are sent."""

    kubectl: Kubectl
    name: str = "client"

    def start(self) -> None:
        container = {
            "name": "client",
            "image": simulated(),
            "command": ["python", "-c", "import time; time.sleep(3600)"],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": spec})
        self.kubectl("wait", "--for=condition=Ready", f"pod/{self.name}", "--timeout=60s", timeout_s=70)

    def complete(self, url: str, prompts: Sequence[str], model: str = MODEL) -> list[dict[str, Any]]:
        """The answers' bodies, one after the other, each with its request's id."""
        told = json.dumps({"model": model, "prompts": prompts})
        answers: list[dict[str, Any]] = json.loads(self._python(COMPLETE, url, told))
        return answers

    def fetch(self, url: str) -> str:
        return self._python(FETCH, url)

    def counted(self, pods: Sequence[Mapping[str, Any]], metric: str) -> float:
        """The sum of one counter over the engines in these Pods, as they tell it themselves."""
        pages = [self.fetch(f"http://{pod['status']['podIP']}:8000/metrics") for pod in pods]
        return sum(float(value) for page in pages for value in re.findall(rf"^{metric}{{.*}} (\S+)$", page, re.M))

    def _python(self, program: str, *words: str) -> str:
        return self.kubectl("exec", self.name, "--", "python", "-c", program, *words, timeout_s=120)

"""The real kubectl against the cluster that KUBECONFIG names: what a user would type."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from kvnode import build, cache


class Refused(AssertionError):
    """kubectl failed; its words."""


@dataclass(frozen=True)
class Kubectl:
    program: str
    kubeconfig: Path
    namespace: str = ""
    """Empty: what kubectl takes by itself, and manifests may say their own."""
    entry: tuple[str, ...] = ()
    """Words before kubectl, for whoever does not run inside a node's network."""

    def __call__(self, *words: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        argv = self.argv(*words)
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s)
        if done.returncode:
            raise Refused(f"kubectl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def argv(self, *words: str) -> list[str]:
        there = ("--namespace", self.namespace) if self.namespace else ()
        return [*self.entry, self.program, "--kubeconfig", str(self.kubeconfig), *there, *words]

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", "--output", "json", *words))
        return found

    def apply(self, *manifests: Mapping[str, object]) -> None:
        whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self("apply", "--server-side", "--filename", "-", stdin=whole)

    def events(self, about: str) -> Sequence[str]:
        listed = self.get("events", "--field-selector", f"involvedObject.name={about}")["items"]
        return [f"{event['reason']}: {event['message']}" for event in listed]


def from_environment() -> Kubectl:
    kubeconfig = os.environ.get("KUBECONFIG")
    assert kubeconfig, "these tests need a cluster: `make test RING=cluster` starts one for them"
    built = build.folder(cache.root()) / "bin" / "kubectl"
    program = str(built) if built.exists() else shutil.which("kubectl")
    assert program, "kubectl is not on PATH; install it, or `make cluster` to have one built"
    return Kubectl(program, Path(kubeconfig))


@contextmanager
def own_namespace(kubectl: Kubectl, labels: Mapping[str, str] | None = None) -> Iterator[Kubectl]:
    """A namespace for one test, and kubectl in it. Its deletion is asked for at the end, and not waited for."""
    name = f"t-{uuid4().hex[:8]}"
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}},
    )
    inside = replace(kubectl, namespace=name)
    try:
        until(lambda: "default" in inside("get", "serviceaccounts", "--output", "name"))
        yield inside
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


OFTEN_S = 0.1


def until(
    condition: Callable[[], object],
    *,
    within_s: float = 60,
    otherwise: Callable[[], object] = str,
    every_s: float = 0.5,
) -> None:
    """`otherwise` tells what there was instead, for the failure's text.

    A look is a process, mostly: half of a core would be busy with looking ten times a second.
    """
    end, pause_s = time.monotonic() + within_s, min(OFTEN_S, every_s)
    while not condition():
        assert time.monotonic() < end, f"not within {within_s:.0f} s; {otherwise()}"
        time.sleep(pause_s)
        pause_s = min(every_s, pause_s * 1.5)

"""A stranger types the guide's trial without GPUs, line by line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from guide_trial import commands
from install_manifests import ROOT
from kubectl import Kubectl
from kvnode.node import Node


@dataclass(frozen=True)
class Typed:
    code: int
    said: str
    errors: str
    """And each command before it runs, after a `+`."""


@pytest.fixture
def typed(operator_in_cluster: Kubectl, own_node: Node, tmp_path: Path) -> Iterator[Typed]:
    """What came of it; the shells end at the first command that fails.

    The node is others' too: kvpool may be there already, and `make cluster-down` is only shown.
    """
    *before, end = commands("docs/install.md")
    script = "\n".join([*before, end.replace("make ", "make --dry-run ", 1), ""])
    try:
        with a_shell(own_node.kubeconfig, tmp_path) as (bash, out, err):
            bash.communicate(script.encode(), timeout=150)
            yield Typed(bash.returncode, out.read_text(), err.read_text())
    finally:
        operator_in_cluster("delete", "kvp/simulated", "--namespace=default", "--ignore-not-found", "--wait=false")


@contextmanager
def a_shell(kubeconfig: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    """With whatever it leaves in the background. To `make` the environment of these tests is set up and up to date."""
    venv = folder / "venv"
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    (venv / "runtime").touch()
    asked = {"SHELL": "/bin/bash", "SHELLOPTS": "errexit:xtrace", "MAKEFLAGS": f" -- VENV={venv}"}
    path = f"{venv}/bin{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **asked, "PATH": path, "KUBECONFIG": str(kubeconfig)}
    out, err = folder / "out", folder / "err"
    with out.open("w") as said, err.open("w") as errors:
        bash = subprocess.Popen(
            ["bash"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=said, stderr=errors, start_new_session=True
        )
    try:
        yield bash, out, err
    finally:
        with suppress(ProcessLookupError):
            os.killpg(bash.pid, signal.SIGKILL)
        bash.wait()


def test_every_command_of_the_trial_does_what_the_guide_says(typed: Typed):
    assert typed.code == 0, typed.said + typed.errors
    said = typed.said.splitlines()
    assert "inferencepool.kvpool.dev/simulated condition met" in said
    (answer,) = [json.loads(line) for line in said if line.startswith("{")]
    assert (answer["model"], answer["usage"]["completion_tokens"]) == ("Qwen/Qwen3-8B", 8)
    (row,) = [line.split() for line in said if line.startswith("simulated ") and "Qwen/Qwen3-8B" in line]
    assert row[2:4] == ["2", "2"], "ready, desired"
    assert [line for line in said if "by CacheAware" in line], typed.said
    assert any(line.startswith('inferencepool.kvpool.dev "simulated" deleted') for line in said)
    assert [line for line in said if line.endswith("kvnode down")], typed.said

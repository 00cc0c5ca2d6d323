"""What `kubectl apply -k` and `helm install` would apply: rendered by the real programs."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from kvnode import build, cache

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
NAMESPACE = "kvpool-system"

Object = dict[str, Any]
Key = tuple[str, str, str]


class NotRendered(AssertionError):
    """kubectl or helm failed; its words."""


def program(name: str) -> str:
    built = build.folder(cache.root()) / "bin" / name
    found = str(built) if built.exists() else shutil.which(name)
    assert found, f"{name} is not on PATH; install it, or `make cluster` to have one built"
    return found


def kustomized(folder: Path) -> list[Object]:
    return _rendered([program("kubectl"), "kustomize", str(folder)])


def from_chart(*values: str, chart: Path = DEPLOY / "chart") -> list[Object]:
    """`values` as for helm's --set."""
    sets = [word for value in values for word in ("--set", value)]
    return _rendered([program("helm"), "template", "kvpool", str(chart), "--namespace", NAMESPACE, *sets])


def by_name(objects: Sequence[Object]) -> dict[Key, Object]:
    found = {key(each): each for each in objects}
    assert len(found) == len(objects), "an object is there twice"
    return found


def key(found: Object) -> Key:
    return found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


def one(objects: Sequence[Object], kind: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def pod_specs(objects: Sequence[Object]) -> list[Object]:
    return [each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})]


def environment(deployment: Object) -> dict[str, str]:
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in variables if "value" in each}


def _rendered(argv: list[str]) -> list[Object]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRendered(done.stderr)
    return [each for each in yaml.safe_load_all(done.stdout) if each]

"""What images are made of, and how `make images` builds and pushes them."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from kvnode import sources
from kvpool_operator.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENT = ROOT / "deploy" / "base" / "deployment.yaml"
IMAGES = {
    "operator": ("operator", ("crds/kvpool_api", "operator/kvpool_operator"), "65532:65532"),
    "router": ("router", ("crds/kvpool_api", "router/kvpool_router"), "65532:65532"),
    "engine-sim": ("sim", ("crds/kvpool_api", "simulator/kvpool_sim"), "2000:2000"),
}


def dockerfile(image: str) -> str:
    return (ROOT / "deploy" / "images" / image / "Dockerfile").read_text()


def pins(lock: Path) -> dict[str, str]:
    """Each requirement with its marker and hashes, by name and marker."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    return {entry.split(" \\")[0]: entry for entry in entries}


def test_routers_whose_pool_names_no_image_run_the_one_of_this_release():
    """By the name that `make images` gives it and that deploy/ writes."""
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert Settings().router_image == f"localhost/kvpool/router:{release}"
    assert f'{{name: KVPOOL_ROUTER_IMAGE, value: "{Settings().router_image}"}}' in DEPLOYMENT.read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_takes_in_its_lock_and_its_packages_and_nothing_else(image):
    lock, packages, _ = IMAGES[image]
    assert sources.taken_in(dockerfile(image)) == [f"requirements/{lock}.lock", *packages]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in sources.taken_in(dockerfile(image))} <= set(ignored)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_plain_user_and_needs_no_shell(image):
    text = dockerfile(image)
    assert f"USER {IMAGES[image][2]}" in text
    commands = re.findall(r"^(?:RUN|ENTRYPOINT) (.*)", text.replace("\\\n", " "), re.M)
    assert [json.loads(command)[0] for command in commands] == ["python3"] * 3 + ["python"]
    assert "PYTHONDONTWRITEBYTECODE=1" in text


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_versions_that_are_tested(image):
    runtime, own = (
        pins(ROOT / "requirements" / "runtime.lock"),
        pins(ROOT / "requirements" / f"{IMAGES[image][0]}.lock"),
    )
    assert own.items() <= runtime.items(), "`make lock` renews all of them together"


@pytest.mark.parametrize("image", IMAGES)
def test_whatever_an_image_imports_is_in_its_lock(image):
    lock, packages, _ = IMAGES[image]
    pinned = {name.partition("==")[0] for name in pins(ROOT / "requirements" / f"{lock}.lock")}
    of_module = packages_distributions()
    ours = {path.rpartition("/")[2] for path in packages}
    for module in sorted(
        {name for path in packages for name in imported(ROOT / path)} - ours - sys.stdlib_module_names
    ):
        distributions = {re.sub(r"[-_.]+", "-", name).lower() for name in of_module.get(module, ())}
        assert distributions & pinned, f"{module}, of {distributions or 'nobody'}"


def imported(package: Path) -> Iterator[str]:
    """Top-level names of all imports."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


class Tools:
    """Programs on a PATH of their own that write down what they are asked, and succeed or fail as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "asked"

    def add(self, name: str, fails_at: str = "never") -> None:
        program = self.folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._log}\ncase "$1" in {fails_at}) exit 1;; esac\n')
        program.chmod(0o755)

    def build(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(ROOT / "deploy/images/build.py"), *words]
        env = {**os.environ, "PATH": str(self.folder)}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=env)

    def asked(self) -> Sequence[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


def test_all_images_are_built_and_then_pushed(tools):
    tools.add("docker")
    done = tools.build("--registry", "registry.example:5000/team", "--tag", "1.2", "--base", "python:3.12")
    assert done.returncode == 0, done.stderr
    _, *builds, first, second, third = tools.asked()
    names = [f"registry.example:5000/team/kvpool/{image}:1.2" for image in IMAGES]
    assert [first, second, third] == [f"docker push {name}" for name in names]
    for image, name, command in zip(IMAGES, names, builds, strict=True):
        assert command.startswith("docker build ")
        assert command.endswith(f"--build-arg BASE=python:3.12 --file deploy/images/{image}/Dockerfile --tag {name} .")


def test_without_a_registry_nothing_is_pushed(tools):
    tools.add("buildah")
    done = tools.build()
    assert (done.returncode, "not pushed" in done.stdout) == (0, True)
    assert not [line for line in tools.asked() if " push " in line]
    assert "--tag localhost/kvpool/router:" in tools.asked()[2], "a name that nothing is pulled under"


def test_a_docker_that_does_not_run_leaves_it_to_podman(tools):
    tools.add("docker", fails_at="info")
    tools.add("podman")
    assert "built by podman" in tools.build("--registry", "registry.example").stdout


def test_without_any_tool_one_line_says_what_is_needed(tools):
    done = tools.build("--registry", "registry.example")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "no images are built: docker or podman or buildah is needed and none works here; install one, or start docker"
    ]


def test_a_build_that_fails_pushes_nothing(tools):
    tools.add("podman", fails_at="build")
    done = tools.build("--registry", "registry.example")
    assert done.returncode == 1
    assert "failed, for the reason above" in done.stderr
    assert len(tools.asked()) == 2


def test_a_build_that_fails_names_the_base_image_and_how_to_give_another(tools):
    tools.add("buildah", fails_at="build")
    said = tools.build().stderr
    assert "if that is python:3.11-slim-bookworm, which could not be pulled" in said
    assert "make images BASE=registry.example/python:3.11, or --base" in said
    assert "if that is mine:1, which" in tools.build("--base", "mine:1").stderr


def test_make_images_passes_on_the_base_that_it_is_given(tools):
    tools.add("docker")
    argv = ["make", "images", "BASE=mine:1", f"PYTHON={sys.executable}"]
    path = f"{tools.folder}:{os.environ['PATH']}"
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PATH": path})
    assert [line for line in tools.asked() if "--build-arg BASE=mine:1" in line]


@pytest.mark.parametrize("registry", ["https://registry.example", "two words", "registry.example:port"])
def test_a_registry_that_is_no_place_is_refused(tools, registry):
    done = tools.build("--registry", registry)
    assert done.returncode == 2
    assert "give a host and perhaps a path" in done.stderr


@pytest.mark.parametrize("copied", ["crds/inferencepools.yaml", "deploy/role/role.yaml", "deploy/users/roles.yaml"])
def test_the_chart_has_true_copies(copied):
    copy = ROOT / "deploy/chart/files" / Path(copied).name
    assert copy.read_text() == (ROOT / copied).read_text(), "run `make generate`"

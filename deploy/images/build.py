"""Builds kvpool's images and pushes them: `make images REGISTRY=registry.example/team`.

With docker, podman or buildah, whichever is there and works. The images are REGISTRY/kvpool/operator, /router and
/engine-sim, tagged with the release's version. Without a registry they are built as localhost/kvpool/... and stay here.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = ("operator", "router", "engine-sim")
NOWHERE = "localhost"
"""The registry in the names of images that only this machine has: nothing is ever pulled under such a name."""


class BuildFailure(Exception):
    """One line for people: what, why and the mend."""


@dataclass(frozen=True)
class Tool:
    """A program that builds images; `ready` is a command that succeeds where it can."""

    name: str
    ready: tuple[str, ...]

    def works(self) -> bool:
        if shutil.which(self.name) is None:
            return False
        argv = [self.name, *self.ready]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0  # noqa: S603 - one of TOOLS

    def run(self, *words: str) -> None:
        argv = [self.name, *words]
        if subprocess.run(argv, cwd=ROOT, check=False).returncode:  # noqa: S603 - one of TOOLS, without a shell
            raise BuildFailure(f"`{' '.join(argv)}` failed, for the reason above")


TOOLS = (Tool("docker", ("info",)), Tool("podman", ("info",)), Tool("buildah", ("images",)))


def chosen(name: str | None) -> Tool:
    """The named one, else the first that works. Errors: BuildFailure."""
    asked = [tool for tool in TOOLS if name in (None, tool.name)]
    found = next((tool for tool in asked if tool.works()), None)
    if found is None:
        names = " or ".join(tool.name for tool in asked)
        raise BuildFailure(f"no images are built: {names} is needed and none works here; install one, or start docker")
    return found


def version() -> str:
    told: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return told


def revision() -> str:
    """The commit that is checked out; `unknown` where there is no git or no repository."""
    if shutil.which("git") is None:
        return "unknown"
    argv = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - constant
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def name_of(image: str, registry: str, tag: str) -> str:
    return f"{registry or NOWHERE}/kvpool/{image}:{tag}"


def build_words(image: str, name: str, base: str | None) -> list[str]:
    told = {"VERSION": version(), "REVISION": revision(), **({"BASE": base} if base else {})}
    arguments = [word for key, value in told.items() for word in ("--build-arg", f"{key}={value}")]
    return ["build", *arguments, "--file", f"deploy/images/{image}/Dockerfile", "--tag", name, "."]


def _build(tool: Tool, words: Sequence[str], base: str | None) -> None:
    try:
        tool.run(*words)
    except BuildFailure as failure:
        pulled = base or usual_base()
        raise BuildFailure(
            f"{failure}; if that is {pulled}, which could not be pulled: name a base image that can be, or is here"
            " (Python 3.11 or newer, pip), by make images BASE=registry.example/python:3.11, or --base"
        ) from None


def usual_base() -> str:
    """What the Dockerfiles build on when they are told nothing."""
    dockerfile = (ROOT / "deploy" / "images" / IMAGES[0] / "Dockerfile").read_text()
    return re.findall(r"^ARG BASE=(\S+)", dockerfile, re.MULTILINE)[0]


def registry_name(text: str) -> str:
    found = text.rstrip("/")
    if "://" in found or not re.fullmatch(r"[^\s:/]+(:\d+)?(/[^\s:/]+)*|", found):
        raise argparse.ArgumentTypeError(f"{text!r}: give a host and perhaps a path, such as registry.example/team")
    return found


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make images", description=__doc__)
    parser.add_argument(
        "--registry", type=registry_name, default="", help="where to push to, such as registry.example/team"
    )
    parser.add_argument("--tag", default=version(), help="default: the release's version, %(default)s")
    parser.add_argument("--base", help="another base image with Python 3.11 or newer and pip")
    parser.add_argument("--tool", choices=[tool.name for tool in TOOLS], help="default: the first that works")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Builds all before it pushes any: a failure leaves the registry as it was. Errors: BuildFailure."""
    told = parsed(arguments)
    tool = chosen(told.tool)
    names = {image: name_of(image, told.registry, told.tag) for image in IMAGES}
    for image, name in names.items():
        say(f"== {name}, built by {tool.name}")
        _build(tool, build_words(image, name, told.base), told.base)
    if not told.registry:
        say("== built and not pushed: give a registry to push to, REGISTRY=registry.example/team")
        return
    for name in names.values():
        tool.run("push", name)
    say(f"== pushed; docs/install.md tells how to install from {told.registry}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildFailure as failure:
        raise SystemExit(str(failure)) from None

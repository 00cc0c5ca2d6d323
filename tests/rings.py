"""`make test`: the checks, then the rings of tests, each said before it runs and timed after.

Without an argument: checks, unit and embedded, and each further ring whose parts are already on this machine; one that
is left out is named with the command that would bring it. With a ring's name (or `all`): that ring, brought first. With
CI=true every ring is brought and run. Coverage is judged over unit and embedded together.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT / "tests" / "vllm"))


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)  # noqa: T201 - this is the program's output


def run(*argv: str | Path, **env: str) -> None:
    subprocess.run([str(a) for a in argv], cwd=ROOT, check=True, env=os.environ | env)


def check() -> None:
    packages = ["kvpool_api", "kvpool_operator", "kvpool_router", "kvpool_sim", "kvpool_cli"]
    run(BIN / "ruff", "check", "--quiet")
    run(BIN / "ruff", "format", "--check", "--quiet")
    run(BIN / "mypy", *(word for name in packages for word in ("-p", name)))
    run(BIN / "lint-imports")


def unit() -> None:
    """In two halves side by side, each folder by folder: two cores are the least that a machine has today."""
    folders = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir())
    halves = [_started(number, half) for number, half in enumerate((folders[::2], folders[1::2]))]
    for half, output in halves:
        half.wait()
        output.seek(0)
        print(output.read(), flush=True)  # noqa: T201 - this is the program's output
    failed = next((half for half, _ in halves if half.returncode), None)
    if failed is not None:
        raise subprocess.CalledProcessError(failed.returncode, list(failed.args))


def _started(number: int, folders: list[str]) -> tuple[subprocess.Popen[str], IO[str]]:
    output = TemporaryFile("w+")  # noqa: SIM115 - it outlives this function
    argv = _covered(f"unit.{number}", *folders)
    return subprocess.Popen(argv, cwd=ROOT, text=True, stdout=output, stderr=subprocess.STDOUT), output


def embedded() -> None:
    run(*_covered("embedded", "tests/embedded"))


def _covered(name: str, *folders: str) -> list[str]:
    return [str(BIN / "coverage"), "run", f"--data-file=.coverage.{name}", "-m", "pytest", "-q", *folders]


def vllm() -> None:
    from environment import prepare

    run(BIN / "pytest", "-q", "tests/vllm", KVPOOL_VLLM_PYTHON=str(prepare()))


def vllm_is_here() -> bool:
    from environment import is_prepared

    return is_prepared()


@dataclass(frozen=True)
class Ring:
    name: str
    what: str
    takes: str
    tests: Callable[[], None]
    is_here: Callable[[], bool] = lambda: True


RINGS = (
    Ring("check", "format, lint, types, layers", "1 minute", check),
    Ring("unit", "pure functions, properties, golden files", "2 minutes", unit),
    Ring("embedded", "pools of simulated engines: real processes and sockets", "4 minutes", embedded),
    Ring("vllm", "real vLLM on CPU", "2 minutes, and 5 more to install it the first time", vllm, vllm_is_here),
)


def chosen(word: str) -> tuple[Ring, ...]:
    if word == "all" or (not word and os.environ.get("CI") == "true"):
        return RINGS
    if word:
        found = tuple(ring for ring in RINGS if ring.name == word)
        if not found:
            names = ", ".join(ring.name for ring in RINGS)
            raise SystemExit(f"RING={word}: no such ring; the rings are {names}, all")
        return found
    here = tuple(ring for ring in RINGS if ring.is_here())
    for ring in RINGS:
        if ring not in here:
            say(f"ring {ring.name} ({ring.what}) is left out; `make test RING={ring.name}` brings and runs it")
    return here


def judge_coverage() -> None:
    say("coverage of unit and embedded together, branches counted")
    run(BIN / "coverage", "combine", "--quiet", ".coverage.unit.0", ".coverage.unit.1", ".coverage.embedded")
    run(BIN / "coverage", "report", "--skip-covered")


def main(word: str) -> None:
    begun = time.monotonic()
    rings = chosen(word)
    for ring in rings:
        say(f"ring {ring.name}: {ring.what} (about {ring.takes})")
        since = time.monotonic()
        ring.tests()
        say(f"ring {ring.name} passed in {time.monotonic() - since:.0f} s")
    if {"unit", "embedded"} <= {ring.name for ring in rings}:
        judge_coverage()
    say(f"all passed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except subprocess.CalledProcessError as failed:
        raise SystemExit(f"\n== failed: {' '.join(failed.cmd)}") from None

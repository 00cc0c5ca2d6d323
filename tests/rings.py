"""`make test`: the checks, then the rings of tests, each said before it runs and timed after.

Without an argument: checks, unit and embedded, and each further ring whose parts are already on this machine; one that
is left out is named with the command that would bring it. With a ring's name (or `all`): that ring, brought first. With
CI=true every ring is brought and run. Coverage is judged over unit and embedded together.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROGRESS_S = 15.0
OUTCOMES = re.compile(r"^[.sxXFE]+(?=$| +\[)", re.MULTILINE)
sys.path[:0] = [str(ROOT / "tests" / "vllm"), str(ROOT / "tests" / "node")]


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)  # noqa: T201 - this is the program's output


class Failed(Exception):
    """What failed, as a reader would type it."""


def run(*argv: str | Path, **env: str) -> None:
    if not passes(*argv, **env):
        raise Failed(typed(argv))


def passes(*argv: str | Path, **env: str) -> bool:
    return subprocess.run([str(a) for a in argv], cwd=ROOT, check=False, env=os.environ | env).returncode == 0


def typed(argv: Iterable[str | Path]) -> str:
    return " ".join(str(word).removeprefix(f"{BIN}/") for word in argv)


def check() -> None:
    """Every check runs, so that one round shows all that is to mend."""
    packages = ["kvpool_api", "kvpool_operator", "kvpool_router", "kvpool_sim", "kvpool_cli", "kvnode"]
    checks: tuple[tuple[str | Path, ...], ...] = (
        (BIN / "ruff", "check", "--quiet"),
        (BIN / "ruff", "format", "--check"),
        (BIN / "mypy", *(word for name in packages for word in ("-p", name))),
        (BIN / "lint-imports",),
    )
    failed = [argv for argv in checks if not passes(*argv)]
    if failed:
        raise Failed("; ".join(map(typed, failed)))


def unit() -> None:
    """In two halves side by side, each folder by folder: two cores are the least that a machine has today."""
    folders = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir())
    argvs = [_covered(f"unit.{number}", *half) for number, half in enumerate((folders[::2], folders[1::2]))]
    with ExitStack() as files:
        halves = [Half(argv, Path(files.enter_context(NamedTemporaryFile()).name)) for argv in argvs]
        while any(half.runs() for half in halves):
            _say_progress(halves)
        for half in halves:
            print(half.output(), flush=True)  # noqa: T201 - this is the program's output
    failed = [typed(half.argv) for half in halves if half.process.returncode]
    if failed:
        raise Failed("; ".join(failed))


class Half:
    """Tests beside others, whose output waits in a file for its turn."""

    def __init__(self, argv: list[str], file: Path) -> None:
        self.argv = argv
        self._file = file
        with file.open("w") as output:
            self.process = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def runs(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        return self._file.read_text()

    def done(self) -> int:
        """How many tests have an outcome: pytest writes a sign for each, in lines of nothing else."""
        return sum(len(line) for line in OUTCOMES.findall(self.output()))


def _say_progress(halves: Iterable[Half]) -> None:
    """One line after a while, or at once when a half ends."""
    running, until = [half for half in halves if half.runs()], time.monotonic() + PROGRESS_S
    while all(half.runs() for half in running) and time.monotonic() < until:
        time.sleep(0.2)
    told = (f"{half.done()} tests, {'running' if half.runs() else 'ended'}" for half in halves)
    print(f"   done so far: {'; '.join(told)}", flush=True)  # noqa: T201 - this is the program's output


def embedded() -> None:
    run(*_covered("embedded", "tests/embedded"))


def _covered(name: str, *folders: str) -> list[str]:
    return [str(BIN / "coverage"), "run", f"--data-file=.coverage.{name}", "-m", "pytest", "-q", *folders]


def cluster() -> None:
    """In a cluster that is started for it and stopped after it, unless KUBECONFIG gives one."""
    from kvnode import cluster as clusters
    from kvnode import images, own_images
    from kvnode.failure import NodeFailure

    try:
        images.base()  # outside of any test's time, and of the network without a way out
        own_images.archives()
        started = clusters.chosen("ring")
        started.up()
        try:
            run(*started.entry, BIN / "pytest", "-q", "tests/cluster", KUBECONFIG=str(started.kubeconfig))
        finally:
            started.down()
    except NodeFailure as failure:
        raise Failed(str(failure)) from None


def cluster_is_here() -> bool:
    from kvnode.cluster import is_here

    return is_here()


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
    Ring("cluster", "a real Kubernetes", "12 minutes, 12 more to build it the first time", cluster, cluster_is_here),
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
    except Failed as failed:
        raise SystemExit(f"\n== failed: {failed}") from None
    except subprocess.CalledProcessError as error:  # of what prepares a ring
        raise SystemExit(f"\n== failed: {typed(error.cmd)}") from None

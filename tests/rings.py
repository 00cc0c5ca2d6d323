"""`make test`: the checks, then the rings of tests, each said before it runs and timed after.

Without an argument: checks, unit and embedded, and each further ring whose parts are already on this machine; one that
is left out is named with the command that would bring it. With a ring's name (or `all`): that ring, brought first. With
CI=true every ring is brought and run. Coverage is judged over unit and embedded together.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvnode.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROGRESS_S, STOP_S = 15.0, 120.0
OUTCOMES = re.compile(r"^[.sxXFE]+(?=$| +\[)", re.MULTILINE)
CONTROL_PLANES = (
    "test_contract_kube.py",
    "test_control_plane.py",
    "test_install_manifests.py",
    "test_membership_kube.py",
    "test_operator_process.py",
)
MORE_CONTROL_PLANES = (
    "test_admission_by_the_server.py",
    "test_crash_points.py",
    "test_faults.py",
    "test_kubectl_plugin.py",
    "test_names_taken.py",
    "test_pool_at_rest.py",
    "test_slow_start.py",
)
ON_ANOTHER_NODE = (
    "test_node.py",
    "test_vllm_pod.py",
    "test_port_forward.py",
    "test_plugin_with_routers.py",
    "test_life_under_load.py",
    "test_own_node.py",
)
"""In this order, one after the other: some take the API server away, which leaves DNS behind the times for a while."""
JUDGE = "test_z_rights.py"
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
    side_by_side(*(Part(_covered(f"unit.{n}", *half)) for n, half in enumerate((folders[::2], folders[1::2]))))


@dataclass(frozen=True)
class Part:
    """A command that runs tests beside others."""

    argv: Sequence[str | Path]
    name: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def side_by_side(*parts: Part) -> None:
    """All run to their end, whichever fails. What each said is printed when it ends."""
    with ExitStack() as undo:
        running = [Half(part, Path(undo.enter_context(NamedTemporaryFile()).name)) for part in parts]
        for half in running:
            undo.callback(half.stop)
        told: set[Half] = set()
        while len(told) < len(running):
            _say_progress(running)
            for half in running:
                if half not in told and not half.runs():
                    told.add(half)
                    print(half.ended(), flush=True)  # noqa: T201 - this is the program's output
    failed = [typed(half.part.argv) for half in running if half.process.returncode]
    if failed:
        raise Failed("; ".join(failed))


class Half:
    """Tests beside others, whose output waits in a file for its turn."""

    def __init__(self, part: Part, file: Path) -> None:
        self.part, self._file, self._since = part, file, time.monotonic()
        argv = [str(word) for word in part.argv]
        with file.open("w") as output:
            self.process = subprocess.Popen(
                argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ | part.env
            )

    def runs(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Only where this program gives up before its tests end: their fixtures take down what they put up."""
        if self.runs():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ended(self) -> str:
        head = f"-- {self.part.name}, after {time.monotonic() - self._since:.0f} s\n" if self.part.name else ""
        return head + self.output()

    def output(self) -> str:
        return self._file.read_text()

    def told(self) -> str:
        """How many tests have an outcome: pytest writes a sign for each, in lines of nothing else."""
        done = sum(len(line) for line in OUTCOMES.findall(self.output()))
        name = f"{self.part.name}: " if self.part.name else ""
        return f"{name}{done} tests, {'running' if self.runs() else 'ended'}"


def _say_progress(halves: Iterable[Half]) -> None:
    """One line after a while, or at once when a half ends."""
    running, until = [half for half in halves if half.runs()], time.monotonic() + PROGRESS_S
    while all(half.runs() for half in running) and time.monotonic() < until:
        time.sleep(0.2)
    print(f"   done so far: {'; '.join(half.told() for half in halves)}", flush=True)  # noqa: T201 - as above


def embedded() -> None:
    run(*_covered("embedded", "tests/embedded"))


def _covered(name: str, *folders: str) -> list[str]:
    return [str(BIN / "coverage"), "run", f"--data-file=.coverage.{name}", "-m", "pytest", "-q", *folders]


def cluster() -> None:
    """In clusters that are started for it and stopped after it, unless KUBECONFIG gives one.

    Most tests wait most of their time, so four parts run side by side: two that need control planes without nodes, and
    two that need a node, each with an operator of its own. The judge of the operator's rights comes after all of them.
    """
    from kvnode import images, own_images
    from kvnode.failure import NodeFailure
    from kvnode.lifetime import held

    try:
        images.base()  # outside of any test's time, and of the network without a way out
        own_images.archives()
        with held("ring", "ring-2") as used:
            side_by_side(*_cluster_parts(used))
            logs = os.pathsep.join(str(each.kubeconfig.with_name("audit.log")) for each in used)
            judge = _in_cluster("the judge", used[0], [JUDGE])
            run(*judge.argv, **judge.env, KVPOOL_RING_AUDIT_LOGS=logs)
    except NodeFailure as failure:
        raise Failed(str(failure)) from None


def _cluster_parts(used: Sequence["Cluster"]) -> Iterator[Part]:
    """A file that is named nowhere here runs on the first node, with whatever it needs."""
    there, beside = used[0], used[-1]
    named = {CONTROL_PLANES: there, MORE_CONTROL_PLANES: beside}
    if beside != there:
        named[ON_ANOTHER_NODE] = beside
    files = {path.name for path in (ROOT / "tests" / "cluster").glob("test_*.py")} - {JUDGE}
    named[tuple(sorted(files.difference(*named)))] = there
    for number, (part, cluster) in enumerate(named.items(), 1):
        yield _in_cluster(f"part {number}", cluster, part)


def _in_cluster(name: str, there: "Cluster", files: Iterable[str]) -> Part:
    paths = [f"tests/cluster/{file}" for file in files]
    return Part([*there.entry, BIN / "pytest", "-q", *paths], name, {"KUBECONFIG": str(there.kubeconfig)})


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
    Ring("vllm", "real vLLM on CPU", "3 minutes, and 5 more to install it the first time", vllm, vllm_is_here),
    Ring("cluster", "a real Kubernetes", "9 minutes, 12 more to build it the first time", cluster, cluster_is_here),
)
"""`cluster` runs an engine of real vLLM too, where the ring before it has brought that."""


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
    # A shell starts what it runs in the background with Ctrl-C ignored, and the tests' processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except Failed as failed:
        raise SystemExit(f"\n== failed: {failed}") from None
    except subprocess.CalledProcessError as error:  # of what prepares a ring
        raise SystemExit(f"\n== failed: {typed(error.cmd)}") from None

"""A program of the node: what it is called, how it is started, and where its words go."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.failure import NodeFailure


@dataclass(frozen=True)
class Program:
    name: str
    argv: tuple[str, ...]


def flags(**values: object) -> tuple[str, ...]:
    """`etcd_servers="http://…"` as `--etcd-servers=http://…`."""
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in values.items())


def start(program: Program, logs: Path) -> subprocess.Popen[bytes]:
    with (logs / f"{program.name}.log").open("ab") as log:
        return subprocess.Popen(
            program.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


DETACHED = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!'


def start_detached(argv: Sequence[str], log: Path, *, entry: Sequence[str] = (), env: Mapping[str, str]) -> int:
    """Outlives us as nobody's child; its pid. `entry` is put before the shell that starts it."""
    shell = (*entry, "sh", "-c", DETACHED, "sh", str(log), *argv)
    return int(subprocess.run(shell, env=env, check=True, stdout=subprocess.PIPE).stdout)


def record(path: Path, programs: Iterable[Program]) -> None:
    """For whoever starts one of them again later."""
    path.write_text(json.dumps({program.name: program.argv for program in programs}, indent=1))


def recorded(path: Path, name: str) -> Program:
    argvs = json.loads(path.read_text())
    if name not in argvs:
        raise NodeFailure(f"no program {name} runs here; there are {', '.join(argvs)}")
    return Program(name, tuple(argvs[name]))


def last_words(logs: Path, name: str, lines: int = 12) -> str:
    try:
        text = (logs / f"{name}.log").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def wait(what: str, done: Callable[[], bool], alive: Callable[[], None], deadline_s: float) -> None:
    """Polls until `done`; `alive` raises when a program that must run has ended. Errors: NodeFailure."""
    end = time.monotonic() + deadline_s
    while not done():
        alive()
        if time.monotonic() > end:
            raise NodeFailure(f"{what}: not within {deadline_s:.0f} s")
        time.sleep(0.05)

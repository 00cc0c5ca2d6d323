"""`make test`: what fails is all named, and by the command that shows it again."""

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kvnode.failure import NodeFailure

from tests import rings


@pytest.fixture
def asked(monkeypatch):
    """Commands that the rings ran; those with a word in `fails` fail."""

    class Asked(list):
        fails: tuple[str, ...] = ()

    asked = Asked()
    monkeypatch.setattr(rings, "passes", lambda *argv, **_: asked.append(argv) or not set(asked.fails) & set(argv))
    return asked


def test_every_check_runs_though_the_first_failed_and_each_failure_is_named(asked):
    asked.fails = ("check", "kvpool_api")
    with pytest.raises(rings.Failed) as caught:
        rings.check()
    assert len(asked) == 4
    first, second = str(caught.value).split("; ")
    assert first == "ruff check --quiet"
    assert second.startswith("mypy -p kvpool_api")


def test_checks_that_pass_say_nothing(asked):
    rings.check()
    assert len(asked) == 4


def test_a_command_that_fails_is_named_as_one_would_type_it():
    with pytest.raises(rings.Failed, match=r"^python -c raise SystemExit\(3\)$"):
        rings.run(rings.BIN / "python", "-c", "raise SystemExit(3)")
    rings.run(sys.executable, "-c", "")


def test_both_halves_of_the_unit_ring_are_judged(monkeypatch, capfd):
    monkeypatch.setattr(
        rings, "_covered", lambda name, *_: [sys.executable, "-c", f"print('ran {name}'); raise SystemExit(1)"]
    )
    with pytest.raises(rings.Failed, match=r"unit\.0.*; .*unit\.1"):
        rings.unit()
    assert capfd.readouterr().out.count("ran unit.") == 2


def test_an_unknown_ring_is_named_with_those_that_are():
    with pytest.raises(SystemExit, match="RING=nope: no such ring; the rings are check, unit, embedded"):
        rings.chosen("nope")
    assert [ring.name for ring in rings.chosen("unit")] == ["unit"]


@dataclass(frozen=True)
class StandIn:
    """A cluster in which commands are only shown; one with a word in `fails` fails."""

    name: str
    asked: list[str] = field(compare=False)
    fails: str = "nothing"

    @property
    def kubeconfig(self) -> Path:
        return Path("/nodes", self.name, "kubeconfig")

    @property
    def entry(self) -> tuple[str, ...]:
        return sys.executable, "-c", SHOW, self.name, self.fails

    def up(self) -> None:
        self.asked.append(f"{self.name} up")

    def down(self) -> None:
        self.asked.append(f"{self.name} down")


SHOW = """
import os, sys
_, name, fails, *argv = sys.argv
logs = os.environ.get("KVPOOL_RING_AUDIT_LOGS")
print(name, os.environ["KUBECONFIG"], *(word.rpartition("/")[2] for word in argv), *([logs] if logs else []))
sys.exit(any(fails in word for word in argv))
"""


@pytest.fixture(autouse=True)
def _images_are_here(monkeypatch):
    monkeypatch.setattr("kvnode.images.base", lambda: "localhost/base")
    monkeypatch.setattr("kvnode.own_images.archives", dict)
    monkeypatch.setattr("kvnode.lifetime._alone", nullcontext)  # a real ring may run beside this


def shown(capfd) -> list[list[str]]:
    """What ran in a cluster: its name, its kubeconfig, pytest, -q, the files."""
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    return [words for words in lines if len(words) > 3 and words[2] == "pytest"]


def test_each_file_of_the_cluster_ring_runs_once_on_one_of_two_nodes_and_the_judge_of_rights_last(monkeypatch, capfd):
    asked: list[str] = []
    monkeypatch.setattr("kvnode.lifetime.chosen", lambda name: StandIn(name, asked))
    rings.cluster()
    assert sorted(asked[-4:-2]) == ["ring up", "ring-2 up"]
    assert asked[-2:] == ["ring down", "ring-2 down"]
    *parts, judge = shown(capfd)
    assert sorted(name for name, *_ in parts) == ["ring", "ring", "ring-2", "ring-2"]
    assert {(name, kubeconfig) for name, kubeconfig, *_ in parts} == {
        ("ring", "/nodes/ring/kubeconfig"),
        ("ring-2", "/nodes/ring-2/kubeconfig"),
    }
    files = [file for _, _, _, _, *files in parts for file in files]
    assert sorted([*files, judge[4]]) == sorted(path.name for path in (rings.ROOT / "tests/cluster").glob("test_*.py"))
    assert judge[4:] == ["test_z_rights.py", "/nodes/ring/audit.log:/nodes/ring-2/audit.log"]


def test_a_cluster_that_is_given_takes_what_two_nodes_would(monkeypatch, capfd):
    asked: list[str] = []
    monkeypatch.setattr("kvnode.lifetime.chosen", lambda name: StandIn("given", asked))
    monkeypatch.setenv("KUBECONFIG", "/nodes/given/kubeconfig")
    rings.cluster()
    assert asked == ["given up"]
    *parts, judge = shown(capfd)
    assert len(parts) == 3
    assert judge[4:] == ["test_z_rights.py", "/nodes/given/audit.log"]


@pytest.mark.parametrize("fails", ["test_faults.py", "test_node.py", "test_z_rights.py"])
def test_one_part_that_fails_fails_the_cluster_ring_and_both_nodes_go(fails, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr("kvnode.lifetime.chosen", lambda name: StandIn(name, asked, fails))
    with pytest.raises(rings.Failed, match=f"pytest -q .*tests/cluster/{fails}"):
        rings.cluster()
    assert asked[-2:] == ["ring down", "ring-2 down"]


def test_a_node_that_does_not_start_takes_the_other_one_down(monkeypatch):
    asked: list[str] = []

    class Refusing(StandIn):
        def up(self) -> None:
            raise NodeFailure("no room")

    monkeypatch.setattr("kvnode.lifetime.chosen", lambda name: (Refusing if name == "ring-2" else StandIn)(name, asked))
    with pytest.raises(rings.Failed, match="no room"):
        rings.cluster()
    assert asked[-3:] == ["ring up", "ring down", "ring-2 down"]


def test_tests_that_still_run_when_the_ring_is_given_up_are_told_to_end_and_waited_for(monkeypatch, tmp_path):
    ended = tmp_path / "ended"
    waits = f"""
import pathlib, time
try:
    pathlib.Path({str(tmp_path)!r}, "begun").touch()
    time.sleep(60)
finally:
    pathlib.Path({str(ended)!r}).touch()
"""

    def interrupt(_: object) -> None:
        end = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < end
        raise KeyboardInterrupt

    monkeypatch.setattr(rings, "_say_progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rings.side_by_side(rings.Part([sys.executable, "-c", waits]))
    assert ended.exists()


def test_a_cluster_that_cannot_be_had_fails_the_ring_with_what_is_missing(asked, monkeypatch):
    def refuse(name):
        raise NodeFailure("Go is not on PATH; install it")

    monkeypatch.setattr("kvnode.lifetime.chosen", refuse)
    with pytest.raises(rings.Failed, match="Go is not on PATH; install it"):
        rings.cluster()
    assert asked == []


def test_the_unit_ring_says_how_many_tests_each_half_has_done_while_it_runs(monkeypatch, capfd):
    shown = r"print('...s.. [ 60%]\n.x', flush=True); import time; time.sleep(0.5)"
    monkeypatch.setattr(rings, "_covered", lambda *_: [sys.executable, "-c", shown])
    monkeypatch.setattr(rings, "PROGRESS_S", 0.1)
    rings.unit()
    assert "done so far: 8 tests, " in capfd.readouterr().out

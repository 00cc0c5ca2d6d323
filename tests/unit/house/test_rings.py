"""`make test`: what fails is all named, and by the command that shows it again."""

import sys

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


class StandIn:
    """A cluster that only says what was asked of it."""

    def __init__(self, asked):
        self.kubeconfig, self.entry = "/its/kubeconfig", ("enter", "it")
        self.up, self.down = (lambda: asked.append("up")), (lambda: asked.append("down"))


@pytest.fixture(autouse=True)
def _images_are_here(monkeypatch):
    monkeypatch.setattr("kvnode.images.base", lambda: "localhost/base")
    monkeypatch.setattr("kvnode.own_images.archives", dict)


def test_the_cluster_is_up_for_its_tests_and_down_after_them_also_when_they_fail(asked, monkeypatch):
    monkeypatch.setattr("kvnode.cluster.chosen", lambda name: StandIn(asked))
    rings.cluster()
    assert asked == ["up", ("enter", "it", rings.BIN / "pytest", "-q", "tests/cluster"), "down"]
    asked.clear()
    asked.fails = ("tests/cluster",)
    with pytest.raises(rings.Failed, match="enter it pytest -q tests/cluster"):
        rings.cluster()
    assert asked[-1] == "down"


def test_a_cluster_that_cannot_be_had_fails_the_ring_with_what_is_missing(asked, monkeypatch):
    def refuse(name):
        raise NodeFailure("Go is not on PATH; install it")

    monkeypatch.setattr("kvnode.cluster.chosen", refuse)
    with pytest.raises(rings.Failed, match="Go is not on PATH; install it"):
        rings.cluster()
    assert asked == []


def test_the_unit_ring_says_how_many_tests_each_half_has_done_while_it_runs(monkeypatch, capfd):
    shown = r"print('...s.. [ 60%]\n.x', flush=True); import time; time.sleep(0.5)"
    monkeypatch.setattr(rings, "_covered", lambda *_: [sys.executable, "-c", shown])
    monkeypatch.setattr(rings, "PROGRESS_S", 0.1)
    rings.unit()
    assert "done so far: 8 tests, " in capfd.readouterr().out

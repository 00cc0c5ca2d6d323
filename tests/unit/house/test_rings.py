"""`make test`: what fails is all named, and by the command that shows it again."""

import sys

import pytest

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


def test_the_unit_ring_says_how_many_tests_each_half_has_done_while_it_runs(monkeypatch, capfd):
    shown = r"print('...s.. [ 60%]\n.x', flush=True); import time; time.sleep(0.5)"
    monkeypatch.setattr(rings, "_covered", lambda *_: [sys.executable, "-c", shown])
    monkeypatch.setattr(rings, "PROGRESS_S", 0.1)
    rings.unit()
    assert "done so far: 8 tests, " in capfd.readouterr().out

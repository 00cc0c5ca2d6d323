"""A cluster that a program started ends with the program, however that is told to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kvnode import build, lifetime
from kvnode.cluster import Given
from kvnode.failure import NodeFailure
from kvnode.signals import undisturbed, unwinding

NAME = f"unit-{os.getpid()}"


@dataclass
class Told:
    """A cluster that keeps what it was told."""

    words: list[str] = field(default_factory=list)
    on_up: Callable[[], None] = lambda: None
    kubeconfig: Path = Path("kubeconfig")
    entry: tuple[str, ...] = ()

    def up(self) -> None:
        self.words.append("up")
        self.on_up()

    def down(self) -> None:
        self.words.append("down")

    def is_up(self) -> bool:
        return self.words[-1:] == ["up"]

    def load(self, archive: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def told(monkeypatch) -> Told:
    cluster = Told()
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(lifetime, "chosen", lambda _name: cluster)
    monkeypatch.setattr(build, "is_here", lambda _root: True)
    return cluster


@pytest.fixture
def heeded() -> Iterator[None]:
    """Signals do what they do by themselves, also where these tests run under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, what in before.items():
        signal.signal(number, what)


def test_what_an_earlier_run_left_goes_first_and_what_this_one_started_goes_last(told):
    with lifetime.held(NAME) as used:
        assert list(used) == [told]
        assert told.words == ["down", "up"]
    assert told.words == ["down", "up", "down"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whoever_is_told_to_end_takes_its_cluster_down(told, heeded, number):
    with pytest.raises(KeyboardInterrupt), lifetime.held(NAME):
        os.kill(os.getpid(), number)
    assert told.words == ["down", "up", "down"]


def test_what_nohup_has_ignored_stays_ignored(told, heeded):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with lifetime.held(NAME):
        os.kill(os.getpid(), signal.SIGHUP)
        assert told.words == ["down", "up"]


def test_a_start_that_is_told_to_end_takes_down_what_it_had(told, heeded):
    told.on_up = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), lifetime.held(NAME):
        raise AssertionError("not reached")
    assert told.words[-1] == "down"


def test_what_is_built_first_is_built_where_an_interruption_reaches_it(told, monkeypatch):
    monkeypatch.setattr(build, "is_here", lambda _root: False)
    with lifetime.held(NAME, f"{NAME}-2"):
        assert told.words == ["down", "down", "up", "up", "up"]


def test_somebodys_cluster_stays_as_it_is(told, monkeypatch, tmp_path):
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with lifetime.held(NAME, f"{NAME}-2") as used:
        assert list(used) == [told]
    assert told.words == ["up"]
    assert Given(kubeconfig).is_up()


def test_two_runs_do_not_share_a_cluster_that_the_first_would_take_down_under_the_second(told):
    with (
        lifetime.held(NAME),
        pytest.raises(NodeFailure, match=r"another run uses cluster unit-.*; wait for its end, or end it"),
        lifetime.held(NAME),
    ):
        raise AssertionError("not reached")
    assert told.words == ["down", "up", "down"]


IGNORING = """
import os, signal
from kvnode.signals import undisturbed, unwinding
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with unwinding():
    os.kill(os.getpid(), signal.SIGHUP)
    with undisturbed():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    print("whole", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_removal_under_way_is_not_cut_short_and_nohup_holds():
    env = os.environ | {"PYTHONPATH": str(lifetime.__file__).removesuffix("/kvnode/lifetime.py")}
    done = subprocess.run([sys.executable, "-c", IGNORING], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("whole\n", -signal.SIGTERM), done.stderr


def test_handlers_are_as_before_after_the_block():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with unwinding(), undisturbed():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before

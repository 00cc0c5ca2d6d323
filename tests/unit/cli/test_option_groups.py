"""Options as dataclasses: one flat command for typer, sections in its help, and what was given."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import typer
from kvpool_cli.option_groups import SectionedCommand, flags_given, grouped
from typer import Argument, Option
from typer.testing import CliRunner


@dataclass(frozen=True, slots=True)
class Sizes:
    section: ClassVar[str] = "How large"

    width_cm: Annotated[int | None, Option("--width", min=1, show_default="as wide as it is")] = None
    extra_room: Annotated[bool, Option("--room/--no-room")] = True


@dataclass(frozen=True, slots=True)
class Names:
    section: ClassVar[str] = "How called"

    place: Annotated[str, Argument(metavar="PLACE", help="Where.")]
    name: Annotated[str, Option(help="Its name.", envvar="THE_NAME")]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def app(seen):
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=SectionedCommand)
    @grouped
    def make(sizes: Sizes, names: Names) -> None:
        """Make it."""
        seen.append((sizes, names))

    return app


def test_each_group_arrives_with_what_was_told_and_what_was_not(app, seen):
    assert CliRunner().invoke(app, ["here", "--width", "3", "--name", "x"]).exit_code == 0
    assert CliRunner().invoke(app, ["there", "--no-room"], env={"THE_NAME": "y"}).exit_code == 0
    assert seen == [(Sizes(3, True), Names("here", "x")), (Sizes(None, False), Names("there", "y"))]


def test_an_option_without_a_default_is_required_and_bounds_are_held(app, seen):
    assert CliRunner().invoke(app, ["here"]).exit_code == 2
    assert CliRunner().invoke(app, ["here", "--width", "0", "--name", "x"]).exit_code == 2
    assert seen == []


def test_help_has_a_section_a_group(app):
    shown = CliRunner().invoke(app, ["--help"]).output
    order = [
        shown.index(words)
        for words in ("Make it.", "How large:", "--width", "Arguments:", "How called:", "--name", "Options:")
    ]
    assert order == sorted(order)
    assert "default: as wide as it is" in shown


def test_flags_that_were_given_are_named_as_they_are_written():
    assert flags_given(Sizes(width_cm=3)) == ["--width", "--room/--no-room"]
    assert flags_given(Names(None, "x")) == ["--name"]

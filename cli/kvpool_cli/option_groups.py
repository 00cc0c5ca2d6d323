"""Options of a command as dataclasses: a field is an option, a class is a section of the help.

A class says its section's heading in a class variable `section`; a field is `Annotated` with `typer.Option`. A field
that is None was not given; what it then means is its option's `show_default`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, fields
from functools import wraps
from typing import Annotated, Any, ClassVar, Protocol, get_args, get_type_hints

from typer.core import TyperCommand
from typer.models import OptionInfo

SECTIONS = {"argument": "Arguments", "option": "Options"}
"""For parameters that name no section."""
TOLD_DEFAULT = re.compile(r"default: \(([^()]*)\)")
"""typer puts a default that is told in words into parentheses."""


class OptionGroup(Protocol):
    """A dataclass of options."""

    section: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes option groups, as typer wants it: one parameter a field."""
    groups = {name: kind for name, kind in get_type_hints(command).items() if name != "return"}

    @wraps(command)
    def flat(**told: object) -> None:
        command(
            **{name: kind(**{each.name: told[each.name] for each in fields(kind)}) for name, kind in groups.items()}
        )

    parameters = [parameter for kind in groups.values() for parameter in _parameters(kind)]
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat


def _parameters(kind: type[OptionGroup]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        value, option = get_args(hints[field.name])
        placed = copy(option)
        placed.rich_help_panel = kind.section if isinstance(option, OptionInfo) else None
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[value, placed]
        )


def flags_given(group: OptionGroup) -> list[str]:
    """Options of the group that are not None, as they are written on the command line."""
    hints = get_type_hints(type(group), include_extras=True)
    named = ((each.name, get_args(hints[each.name])[1]) for each in fields(group))
    return [_flag(name, option) for name, option in named if getattr(group, name) is not None]


def _flag(name: str, option: OptionInfo) -> str:
    """In an annotation typer keeps the first declaration where a default would stand."""
    declared = (option.default, *(option.param_decls or ()))
    return next((str(each) for each in declared if str(each).startswith("--")), f"--{name.replace('_', '-')}")


class SectionedCommand(TyperCommand):
    """Help in plain text with a heading a section; typer's own has sections only in boxes, for which it loads rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer keeps their types private
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = getattr(parameter, "rich_help_panel", None) or SECTIONS[parameter.param_type_name]
                sections.setdefault(section, []).append((record[0], TOLD_DEFAULT.sub(r"default: \1", record[1])))
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)

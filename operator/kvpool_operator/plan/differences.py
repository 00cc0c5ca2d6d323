"""What is different between two specs, told so that everybody may read it: in Events, conditions and logs.

Environment variables, arguments and podTemplate hold credentials as often as not (`HF_TOKEN`, `--api-key`), and Events
and logs are read, kept and passed on by far more people than may read pools. So of these no value is ever told, only
its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from kvpool_api.manifest import as_list, as_map, as_text
from pydantic import JsonValue

from kvpool_operator.build.names import canonical

_LONGEST = 60
"""So many characters of a value are told."""


def differences(old: JsonValue, new: JsonValue, path: str = "spec") -> Iterator[str]:
    """Each changed field, with its old and new value where that may be told; a list says which of its items differ."""
    if old == new:
        return
    name_of_items = _NAMES.get(path.rpartition(".")[2])
    if name_of_items is not None and isinstance(old or [], list) and isinstance(new or [], list):
        yield from _changes(path, name_of_items(as_list(old)), name_of_items(as_list(new)))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, now) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, now, f"{path}[{place}]")
    elif ".podTemplate" in path:
        yield f"{path}: {_happened(old is not None, new is not None)}"
    else:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _changes(path: str, old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> Iterator[str]:
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    for name in changed:
        yield f"{path} {name}: {_happened(name in old, name in new)}"
    if not changed:
        yield f"{path}: in another order"


def _happened(was: bool, there: bool) -> str:
    return "changed" if was and there else "added" if there else "removed"


def _by_name(env: Sequence[JsonValue]) -> Mapping[str, JsonValue]:
    return {as_text(as_map(each).get("name")): each for each in env}


def _by_flag(args: Sequence[JsonValue]) -> Mapping[str, JsonValue]:
    """What each flag was given. What stands before the first flag goes by no name."""
    flag, found = "", dict[str, list[JsonValue]]()
    for arg in map(as_text, args):
        if arg.startswith("--"):
            flag, _, value = arg.partition("=")
        else:
            value = arg
        found.setdefault(flag, []).append(value)
    return {name or "(no flag)": values for name, values in found.items()}


_NAMES: Mapping[str, Callable[[Sequence[JsonValue]], Mapping[str, JsonValue]]] = {"env": _by_name, "args": _by_flag}


def _shown(value: JsonValue) -> str:
    text = "unset" if value is None else canonical(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

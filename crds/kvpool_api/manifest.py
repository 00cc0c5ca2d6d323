"""JSON objects as Kubernetes speaks them, and how to look into them without guessing their type."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from pydantic import JsonValue

Manifest = dict[str, JsonValue]
Json = TypeVar("Json", bound=JsonValue)


def as_map(value: JsonValue) -> Manifest:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: JsonValue) -> list[JsonValue]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: JsonValue) -> str:
    """The value where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def copied(value: Json) -> Json:
    """A deep copy (a fifth of the time of copy.deepcopy, which must expect more than JSON)."""
    return cast(Json, _copied(value))


def _copied(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value


def at(value: JsonValue, path: Sequence[str]) -> JsonValue:
    """What stands at the path of keys; None where a key is missing."""
    for key in path:
        value = as_map(value).get(key)
    return value


def without(value: Mapping[str, JsonValue], *keys: str) -> Manifest:
    """The object less these keys."""
    return {key: each for key, each in value.items() if key not in keys}

"""What of a value does not fit its schema, in the words of the API server's validator (kube-openapi)."""

import itertools
import re
from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue

from kvpool_api.admission import errors
from kvpool_api.admission.errors import FieldError
from kvpool_api.admission.node import Bounds, Node

DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:?\d\d)", re.ASCII)
WHOLE_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)


def schema_errors(node: Node, value: JsonValue, path: str = "") -> Iterator[FieldError]:
    """Errors of the value and of what it holds; each check applies to values of its own type, whatever the node's."""
    if value is None:
        if not node.nullable:
            yield errors.wrong_type(path, ",".join(node.types), "null", "given null; write a value, or drop the line")
        return
    if not _fits(node.types, value):
        yield errors.wrong_type(path, ",".join(node.types), type_name(value), _mend(node, value))
    if isinstance(value, str):
        yield from _text_errors(node.bounds, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_errors(node.bounds, value, path)
    if node.bounds.choices and value not in node.bounds.choices:
        yield errors.unsupported(path, value, node.bounds.choices)
    if isinstance(value, list):
        yield from _list_errors(node, value, path)
    elif isinstance(value, dict):
        yield from _object_errors(node, value, path)


def type_name(value: JsonValue) -> str:
    """JSON's name of the value's type; a whole number may be written as a float."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "number"
    names = {dict: "object", list: "array", str: "string", int: "integer"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "null")


def _fits(types: tuple[str, ...], value: JsonValue) -> bool:
    whole = isinstance(value, float) and value.is_integer() and "integer" in types
    number = "number" in types and type_name(value) == "integer"
    return whole or number or type_name(value) in types


def _mend(node: Node, value: JsonValue) -> str:
    """What was given and how to write what is wanted."""
    return f"given {errors.shortened(value)}; {_rewritten(node, value)}"


def _rewritten(node: Node, value: JsonValue) -> str:
    wanted = node.types[0]
    scalar = not isinstance(value, dict | list)
    if wanted == "string" and scalar:
        return f"put it in quotes: {errors.quoted(errors.shown(value))}"
    if wanted in ("integer", "boolean") and isinstance(value, str) and _is_quoted(wanted, value):
        return f"drop the quotes: {value}"
    if wanted == "object":
        keys = ", ".join(itertools.islice(node.properties, 3))
        return f"write a map{f' with keys such as {keys}' if keys else ''}"
    return {
        "array": "write a list",
        "boolean": "write true or false",
        "integer": "write a whole number",
    }.get(wanted, f"write a {wanted}")


def _is_quoted(wanted: str, text: str) -> bool:
    return text in ("true", "false") if wanted == "boolean" else WHOLE_NUMBER.fullmatch(text) is not None


def _text_errors(bounds: Bounds, value: str, path: str) -> Iterator[FieldError]:
    if bounds.max_length is not None and len(value) > bounds.max_length:
        yield errors.too_long(path, bounds.max_length)
    elif bounds.min_length is not None and len(value) < bounds.min_length:
        yield errors.invalid(path, value, f"{path} in body should be at least {bounds.min_length} chars long")
    elif bounds.matcher and not bounds.matcher.search(value):
        yield errors.invalid(path, value, f"{path} in body should match '{bounds.pattern}'")
    elif bounds.format == "date-time" and not DATE_TIME.fullmatch(value):
        yield errors.wrong_type(path, "date-time", value)


def _number_errors(bounds: Bounds, value: float, path: str) -> Iterator[FieldError]:
    if bounds.maximum is not None and value > bounds.maximum:
        yield errors.invalid(path, value, f"{path} in body should be less than or equal to {bounds.maximum}")
    if bounds.minimum is not None and value < bounds.minimum:
        yield errors.invalid(path, value, f"{path} in body should be greater than or equal to {bounds.minimum}")


def _list_errors(node: Node, value: list[JsonValue], path: str) -> Iterator[FieldError]:
    if node.items:
        for index, each in enumerate(value):
            yield from schema_errors(node.items, each, f"{path}[{index}]")
    least, most = node.bounds.min_items, node.bounds.max_items
    if least is not None and len(value) < least:
        yield errors.invalid(path, len(value), f"{path} in body should have at least {least} items")
    if most is not None and len(value) > most:
        yield errors.too_many(path, len(value), most)


def _object_errors(node: Node, value: dict[str, JsonValue], path: str) -> Iterator[FieldError]:
    most = node.bounds.max_properties
    if most is not None and len(value) > most:
        yield errors.too_many(path, len(value), most)
    for name, each in value.items():
        child = node.properties.get(name, node.values)
        if child:
            yield from schema_errors(child, each, f"{path}.{name}".removeprefix("."))
    for name in node.required:
        if name not in value:
            yield errors.required(f"{path}.{name}".removeprefix("."))

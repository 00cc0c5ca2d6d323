"""A CustomResourceDefinition's schema, read once into a tree."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from kvpool_api.admission.cel_rules import CelRule, compiled_rules
from kvpool_api.manifest import as_list, as_map, as_text
from kvpool_api.schema import INT_OR_STRING, LIST_TYPE, PRESERVE_UNKNOWN


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a value; each applies to values of its own type and None does not limit."""

    minimum: int | None
    maximum: int | None
    min_length: int | None
    max_length: int | None
    min_items: int | None
    max_items: int | None
    max_properties: int | None
    pattern: str
    matcher: re.Pattern[str] | None
    choices: tuple[JsonValue, ...]
    format: str


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a structural schema, with what hangs below it."""

    types: tuple[str, ...]
    nullable: bool
    preserves_unknown: bool
    has_default: bool
    default: JsonValue
    bounds: Bounds
    required: tuple[str, ...]
    properties: Mapping[str, "Node"]
    items: "Node | None"
    values: "Node | None"
    list_type: str
    list_keys: tuple[str, ...]
    rules: tuple[CelRule, ...]


def read_node(schema: JsonValue) -> Node:
    """The tree of a structural schema. Raises ValueError where a CEL rule does not parse."""
    node = as_map(schema)
    return Node(
        types=("integer", "string") if node.get(INT_OR_STRING) else (as_text(node.get("type")),),
        nullable=node.get("nullable") is True,
        preserves_unknown=node.get(PRESERVE_UNKNOWN) is True,
        has_default="default" in node,
        default=node.get("default"),
        bounds=_bounds(node),
        required=_texts(node.get("required")),
        properties={name: read_node(each) for name, each in as_map(node.get("properties")).items()},
        items=read_node(node["items"]) if "items" in node else None,
        values=read_node(node["additionalProperties"]) if "additionalProperties" in node else None,
        list_type=as_text(node.get(LIST_TYPE)),
        list_keys=_texts(node.get("x-kubernetes-list-map-keys")),
        rules=compiled_rules(node.get("x-kubernetes-validations")),
    )


def _bounds(node: Mapping[str, JsonValue]) -> Bounds:
    pattern = as_text(node.get("pattern"))
    return Bounds(
        minimum=_limit(node, "minimum"),
        maximum=_limit(node, "maximum"),
        min_length=_limit(node, "minLength"),
        max_length=_limit(node, "maxLength"),
        min_items=_limit(node, "minItems"),
        max_items=_limit(node, "maxItems"),
        max_properties=_limit(node, "maxProperties"),
        pattern=pattern,
        matcher=re.compile(_as_re2(pattern), re.ASCII) if pattern else None,
        choices=tuple(as_list(node.get("enum"))),
        format=as_text(node.get("format")),
    )


def _as_re2(pattern: str) -> str:
    """`$` of the API server's RE2 is the end of the text; Python's also matches before a last newline."""
    return re.sub(r"(?<!\\)\$(?=$|\))", r"\\Z", pattern)


def _limit(node: Mapping[str, JsonValue], key: str) -> int | None:
    return cast("int | None", node.get(key))


def _texts(value: JsonValue) -> tuple[str, ...]:
    return tuple(as_text(each) for each in as_list(value))

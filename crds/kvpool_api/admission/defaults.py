"""Defaults, filled in as the API server does: from the outside to the inside, a null that means nothing as absent."""

from pydantic import JsonValue

from kvpool_api.admission.node import Node
from kvpool_api.manifest import copied


def with_defaults(node: Node, value: JsonValue) -> JsonValue:
    """A copy of the value with every default below the node, and without nulls where the schema knows no null."""
    if isinstance(value, dict):
        return _object_with_defaults(node, value)
    if isinstance(value, list):
        return [with_defaults(node.items, each) if node.items else copied(each) for each in value]
    return value


def _object_with_defaults(node: Node, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    filled: dict[str, JsonValue] = {}
    for name, each in value.items():
        child = node.properties.get(name, node.values)
        if child is None:
            filled[name] = copied(each)
        elif each is not None or child.nullable:
            filled[name] = with_defaults(child, each)
    for name, child in node.properties.items():
        if child.has_default and name not in filled:
            filled[name] = with_defaults(child, child.default)
    return filled

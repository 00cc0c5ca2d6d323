"""Lists that are maps or sets (`x-kubernetes-list-type`) hold no key twice."""

import json
from collections.abc import Iterator

from pydantic import JsonValue

from kvpool_api.admission.errors import FieldError, duplicate, invalid
from kvpool_api.admission.node import Node
from kvpool_api.manifest import Manifest, as_map


def repeated_keys(node: Node, value: JsonValue, path: str = "") -> Iterator[FieldError]:
    """One error for each key that comes again, at its second place."""
    if isinstance(value, list):
        yield from _repeated(node, value, path)
        if node.items:
            for index, each in enumerate(value):
                yield from repeated_keys(node.items, each, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            child = node.properties.get(name, node.values)
            if child:
                yield from repeated_keys(child, each, f"{path}.{name}".removeprefix("."))


def _repeated(node: Node, value: list[JsonValue], path: str) -> Iterator[FieldError]:
    keys = value if node.list_type == "set" else []
    if node.list_type == "map":
        odd = next((index for index, each in enumerate(value) if not isinstance(each, dict | None)), None)
        if odd is not None:
            yield invalid(f"{path}[{odd}]", value[odd], "must be an object for an array of list-type map")
            return
        keys = [_key(node, as_map(each)) for each in value]
    seen: dict[str, int] = {}
    for index, key in enumerate(keys):
        text = json.dumps(key, sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            yield duplicate(f"{path}[{index}]", key)


def _key(node: Node, item: Manifest) -> JsonValue:
    return {name: item[name] for name in node.list_keys if name in item}

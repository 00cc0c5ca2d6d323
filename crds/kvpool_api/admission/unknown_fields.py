"""Fields that the schema does not have. An API server prunes them; kubectl asks it to refuse them, and so do we."""

import difflib
from collections.abc import Iterable, Iterator

from pydantic import JsonValue

from kvpool_api.admission.errors import UnknownField, quoted
from kvpool_api.admission.node import Node
from kvpool_api.admission.object_meta import OBJECT_META
from kvpool_api.manifest import as_map, without


def unknown_fields(root: Node, manifest: dict[str, JsonValue]) -> Iterator[UnknownField]:
    """One error a field, in the manifest's order; what stands below an unknown field is not named again."""
    for name in as_map(manifest.get("metadata")):
        if name not in OBJECT_META.properties:
            yield _error(f"metadata.{name}", name, OBJECT_META.properties)
    yield from _below(root, without(manifest, "apiVersion", "kind", "metadata"), "")


def _below(node: Node, value: JsonValue, path: str) -> Iterator[UnknownField]:
    if isinstance(value, list) and node.items:
        for index, each in enumerate(value):
            yield from _below(node.items, each, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    for name, each in value.items():
        child = node.properties.get(name, node.values)
        inner = f"{path}.{name}".removeprefix(".")
        if child:
            yield from _below(child, each, inner)
        elif not node.preserves_unknown:
            yield _error(inner, name, node.properties)


def _error(path: str, name: str, known: Iterable[str]) -> UnknownField:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    return UnknownField(path, f"unknown field {quoted(path)}{hint}")

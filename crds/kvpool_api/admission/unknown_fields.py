"""Fields that the schema does not have. An API server prunes them; kubectl asks it to refuse them, and so do we."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

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
    paths = tuple(_paths(root, ""))
    yield from _below(root, without(manifest, "apiVersion", "kind", "metadata"), "", paths)


def _paths(node: Node, path: str) -> Iterator[str]:
    """Every field that a person may write, from the outside to the inside."""
    for name, child in node.properties.items():
        inner = f"{path}.{name}".removeprefix(".")
        if inner not in ("status", "metadata"):
            yield inner
            yield from _paths(child, inner)
    if node.items:
        yield from _paths(node.items, f"{path}[]")


def _below(node: Node, value: JsonValue, path: str, paths: Sequence[str]) -> Iterator[UnknownField]:
    if isinstance(value, list) and node.items:
        for index, each in enumerate(value):
            yield from _below(node.items, each, f"{path}[{index}]", paths)
    if not isinstance(value, dict):
        return
    for name, each in value.items():
        child = node.properties.get(name, node.values)
        inner = f"{path}.{name}".removeprefix(".")
        if child:
            yield from _below(child, each, inner, paths)
        elif not node.preserves_unknown:
            yield _error(inner, name, node.properties, paths)


def _error(path: str, name: str, known: Iterable[str], paths: Sequence[str] = ()) -> UnknownField:
    """With a name of this place that is close, or else the one other place where there is such a name."""
    elsewhere = [each for each in paths if each.rpartition(".")[2] == name]
    near = difflib.get_close_matches(name, known, n=1) or (elsewhere if len(elsewhere) == 1 else [])
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    return UnknownField(path, f"unknown field {quoted(path)}{hint}")

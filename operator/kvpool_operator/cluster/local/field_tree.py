"""An object as a tree whose edges are the path elements of FieldsV1, so that merging and owning are about paths.

spec.containers[name=engine].image      f:spec / f:containers / k:{"name":"engine"} / f:image      a leaf
metadata.finalizers["x"]                f:metadata / f:finalizers / v:"x"                          a leaf
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from kvpool_operator.cluster.local.merge_rules import FieldPath, ListKey, MergeRules
from kvpool_operator.cluster.seam import Refused

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that is replaced whole: a scalar, an atomic list or an atomic map."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class Branch:
    """A map, or a list whose items have an identity; children keep the order of the list."""

    children: Mapping[str, "Node"]
    is_list: bool = False


Node = Leaf | Branch


def folded(value: JsonValue, rules: MergeRules, at: FieldPath = ()) -> Node:
    """The tree of a JSON value. Raises Refused where an item of a keyed list lacks its key or comes twice."""
    if isinstance(value, dict) and at not in rules.atomic:
        return Branch({f"f:{name}": folded(child, rules, (*at, name)) for name, child in value.items()})
    if isinstance(value, list) and at in rules.keyed:
        return Branch(_items(value, rules.keyed[at], rules, at), is_list=True)
    if isinstance(value, list) and at in rules.sets:
        return Branch({f"v:{_compact(item)}": Leaf(item) for item in value}, is_list=True)
    return Leaf(value)


def unfolded(node: Node) -> JsonValue:
    if isinstance(node, Leaf):
        return node.value
    if node.is_list:
        return [unfolded(child) for child in node.children.values()]
    return {edge.removeprefix("f:"): unfolded(child) for edge, child in node.children.items()}


def owned(node: Node, at: Path = ()) -> Iterator[Path]:
    """Paths that an applier of this tree owns: its leaves, its empty maps, and the items of keyed lists themselves."""
    if isinstance(node, Leaf) or not node.children:
        yield at
        return
    if at and at[-1].startswith("k:"):
        yield at
    for edge, child in node.children.items():
        yield from owned(child, (*at, edge))


def prefixes(paths: Iterable[Path]) -> frozenset[Path]:
    """The paths and every path on the way to them."""
    return frozenset(path[:length] for path in paths for length in range(1, len(path) + 1))


def fields_v1(paths: Iterable[Path]) -> dict[str, JsonValue]:
    """Paths as `managedFields` writes them."""
    members = frozenset(paths)
    root: dict[str, JsonValue] = {}
    parents = prefixes(path[:-1] for path in members)
    for path in sorted(members):
        here = root
        for edge in path:
            below = here.setdefault(edge, {})
            assert isinstance(below, dict)  # noqa: S101 - only this loop fills the tree
            here = below
        if path in parents:
            here["."] = {}
    return root


def spoken(path: Path) -> str:
    """A path as the API server words it: `.spec.containers[name="engine"].image`."""
    return "".join(_spoken_edge(edge) for edge in path)


def _items(values: Sequence[JsonValue], key: ListKey, rules: MergeRules, at: FieldPath) -> dict[str, Node]:
    items: dict[str, Node] = {}
    for value in values:
        edge = f"k:{_compact(_identity(value, key, at))}"
        if edge in items:
            raise Refused(f"{'.'.join(at)}: duplicate entries for key {edge.removeprefix('k:')}")
        items[edge] = folded(value, rules, at)
    return items


def _identity(item: JsonValue, key: ListKey, at: FieldPath) -> dict[str, JsonValue]:
    if not isinstance(item, dict):
        raise Refused(f"{'.'.join(at)}: expected a map, got {_compact(item)}")
    known = {**key.defaults, **item}
    missing = [name for name in key.fields if name not in known]
    if missing:
        raise Refused(f"{'.'.join(at)}: associative list with keys has an element that omits key field {missing[0]!r}")
    return {name: known[name] for name in key.fields}


def _compact(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _spoken_edge(edge: str) -> str:
    sort, _, rest = edge.partition(":")
    if sort == "f":
        return f".{rest}"
    if sort == "v":
        return f"[={rest}]"
    return "[" + ",".join(f"{name}={_compact(value)}" for name, value in json.loads(rest).items()) + "]"

"""Server-side apply as a pure function: what is there, who owns which fields, what is applied -> what is then.

The rules of Kubernetes' structured merge: a field that changes while another manager owns it is a conflict; force takes
it over; equal values are owned together; what a manager applied before and leaves out now goes, unless another owns it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kvpool_operator.cluster.local.field_tree import Branch, Leaf, Node, Path, owned, prefixes, spoken
from kvpool_operator.cluster.seam import FieldConflict


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """A field manager, apart for each subresource it writes by."""

    manager: str
    subresource: str = ""


Owners = Mapping[Owner, frozenset[Path]]


@dataclass(frozen=True, slots=True)
class Applied:
    """The tree after an apply, and who owns what in it."""

    tree: Node
    owners: Owners


def apply(live: Node, owners: Owners, wanted: Branch, *, owner: Owner, force: bool) -> Applied:
    """Merge `wanted` into `live` for `owner`. Raises FieldConflict unless forced."""
    mine = frozenset(owned(wanted)) - {()}
    others = {other: paths for other, paths in owners.items() if other != owner}
    contested = _contested(frozenset(_changed(live, wanted, ())), others)
    if contested and not force:
        raise FieldConflict(_refusal(contested))
    kept = {other: paths - contested.get(other, frozenset()) for other, paths in others.items()}
    gone = prefixes(owners.get(owner, ())) - prefixes((*mine, *(path for paths in kept.values() for path in paths)))
    tree = _without(_merged(live, wanted), gone, ())
    now = {other: paths for other, paths in {**kept, owner: mine}.items() if paths}
    return Applied(tree if tree is not None else Branch({}), now)


def _merged(live: Node | None, wanted: Node) -> Node:
    if not (isinstance(live, Branch) and isinstance(wanted, Branch) and live.is_list == wanted.is_list):
        return wanted
    order = _interleaved(list(live.children), list(wanted.children))
    return Branch(
        {
            edge: _merged(live.children.get(edge), wanted.children[edge])
            if edge in wanted.children
            else live.children[edge]
            for edge in order
        },
        live.is_list,
    )


def _interleaved(live: list[str], wanted: list[str]) -> Iterator[str]:
    """The wanted order; what only the live list has keeps its place before the next item that both have."""
    both = set(live) & set(wanted)
    rest = iter(live)
    passed: set[str] = set()
    for edge in wanted:
        if edge in both and edge not in passed:
            for other in iter(rest.__next__, edge):
                passed.add(other)
                if other not in both:
                    yield other
        yield edge
    yield from (other for other in rest if other not in both)


def _changed(live: Node | None, wanted: Node, at: Path) -> Iterator[Path]:
    """Paths of the leaves, empty maps and items in `wanted` that differ from `live` or are not in it."""
    if isinstance(wanted, Leaf) or not isinstance(live, Branch):
        if live != wanted:
            yield from owned(wanted, at)
        return
    for edge, child in wanted.children.items():
        yield from _changed(live.children.get(edge), child, (*at, edge))


def _contested(changed: frozenset[Path], others: Owners) -> Owners:
    """Fields of other managers that a change touches: the same, or below a value that is replaced whole."""
    touched = {
        other: frozenset(path for path in paths if not changed.isdisjoint(prefixes((path,))))
        for other, paths in others.items()
    }
    return {other: paths for other, paths in touched.items() if paths}


def _without(node: Node, gone: frozenset[Path], at: Path) -> Node | None:
    if at in gone:
        return None
    if isinstance(node, Leaf):
        return node
    children = {edge: _without(child, gone, (*at, edge)) for edge, child in node.children.items()}
    return Branch({edge: child for edge, child in children.items() if child is not None}, node.is_list)


def _refusal(contested: Owners) -> str:
    by_manager: dict[str, set[Path]] = defaultdict(set)
    for owner, paths in contested.items():
        by_manager[owner.manager] |= paths
    count = sum(map(len, by_manager.values()))
    parts = (f"{_against(manager, paths)}" for manager, paths in sorted(by_manager.items()))
    return f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {'; '.join(parts)}"


def _against(manager: str, paths: Iterable[Path]) -> str:
    names = sorted(map(spoken, paths))
    if len(names) == 1:
        return f'conflict with "{manager}": {names[0]}'
    return f'conflicts with "{manager}":' + "".join(f"\n- {name}" for name in names)

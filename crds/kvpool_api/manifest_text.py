"""Manifests as people write them: YAML or JSON text, one or more documents."""

import json
import math
import re
from collections.abc import Hashable
from typing import Any, Final, NamedTuple, cast

import yaml
from pydantic import JsonValue

from kvpool_api.manifest import Manifest

INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
MERGE: Final = "tag:yaml.org,2002:merge"
TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
KINDS: Final = {
    INT: "number",
    FLOAT: "number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:str": "text",
}
"""What a person calls a tag's values."""
REPLACED: Final = frozenset({INT, FLOAT, TIMESTAMP, "tag:yaml.org,2002:value"})
"""Tags whose implicit forms go further than JSON: dates, 12:30 as a number of seconds, 1e3 as a text, a bare `=`."""
NOT_OF_JSON: Final = frozenset(
    {TIMESTAMP, *(f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set"))}
)


MOST_CHARACTERS: Final = 1_000_000
"""An API server's store takes objects of up to 1.5 MB; a pool's manifest has a few hundred bytes."""
DEEPEST: Final = 100
"""Maps and lists within one another. A Pod's deepest field stands at 12; readers of the object may recurse this far."""
MOST_NODES: Final = 100_000
"""Values of one document, each counted as often as aliases repeat it."""


class UnreadableManifest(ValueError):
    """A text that is no manifest; says in one line where and what is wrong, and the mend."""


def load_manifest(text: str) -> list[Manifest]:
    """The documents of the text, empty ones left out. Raises UnreadableManifest with the line of the mistake.

    Read as kubectl reads them: a key twice in one map is a mistake, keys are strings, and a date is a string.
    What grows out of all proportion (aliases of aliases, lists in lists in lists) is refused before it is built.
    """
    if len(text) > MOST_CHARACTERS:
        raise UnreadableManifest(f"has more than {MOST_CHARACTERS:,} characters: no manifest is so large; split it")
    try:
        documents = [each for each in yaml.load_all(text, Loader=_ManifestLoader) if each is not None]
    except yaml.MarkedYAMLError as error:
        raise UnreadableManifest(_explained(error)) from None
    except yaml.reader.ReaderError as error:
        raise UnreadableManifest(_bad_character(text, error.position)) from None
    return [_object(each, number) for number, each in enumerate(documents, start=1)]


def _object(document: JsonValue, number: int) -> Manifest:
    if isinstance(document, dict):
        return document
    found = "a list" if isinstance(document, list) else "a text" if isinstance(document, str) else "a single value"
    raise UnreadableManifest(f"document {number} is {found}, not a map; a manifest begins with `apiVersion:`")


def _bad_character(text: str, position: int) -> str:
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}: the character U+{ord(text[position]):04X} is not allowed in YAML; remove it"


def _explained(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f" ({error.context})" if error.context else ""
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
    return f"{where}{error.problem}{context}{hint}"


class _Extent(NamedTuple):
    """How large a node is once every alias below it is written out."""

    nodes: int
    depth: int


def _of_json(value: object) -> object:
    """The value, pairs of surrogates joined (JSON's way to write what lies beyond U+FFFF).

    Raises ValueError for half a pair, and for a number beyond 64 bits.
    """
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError
    return value


def _refuse_beyond(extent: _Extent, at: yaml.Event) -> None:
    if extent.depth > DEEPEST:
        raise _mistake(f"more than {DEEPEST} maps and lists stand within one another; no manifest is so deep", at)
    if extent.nodes > MOST_NODES:
        often = "each counted as often as an alias repeats it"
        raise _mistake(f"more than {MOST_NODES:,} values ({often}); no manifest is so large", at)


def _mistake(problem: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=cast("yaml.Mark", at.start_mark))


class _ManifestLoader(yaml.SafeLoader):
    """The safe loader less the conversions that JSON does not know, plus the check for repeated keys."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in REPLACED]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._extents: dict[yaml.Node, _Extent] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        _refuse_beyond(_Extent(1, self._depth), event)
        node = cast("yaml.Node", super().compose_node(parent, index))
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and node not in self._extents:
            raise _mistake(f"*{event.anchor} stands inside of what it repeats; write it out", event)
        self._extents[node] = self._extent(node)
        _refuse_beyond(self._extents[node], event)
        return node

    def _extent(self, node: yaml.Node) -> "_Extent":
        children = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = [self._extents[child] for child in children] if isinstance(node, yaml.CollectionNode) else []
        return _Extent(1 + sum(each.nodes for each in below), 1 + max((each.depth for each in below), default=0))

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401 - as PyYAML has it
        if node.tag in NOT_OF_JSON:
            raise _mistake(f"!!{node.tag.rpartition(':')[2]} is not of JSON; write a plain value", node)
        try:
            return _of_json(super().construct_object(node, deep=deep))
        except (ValueError, KeyError):
            kind = KINDS.get(node.tag, "value")
            raise _mistake(f"{node.value[:40]!r} is no {kind} that JSON can hold", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        self._refuse_repeated_keys(node)
        self.flatten_mapping(node)
        return {self._key(key): self.construct_object(value, deep=deep) for key, value in node.value}

    def _refuse_repeated_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name = self._key(key)
            if name in lines:
                problem = f'key "{name}" is set again (first on line {lines[name]}); keep one'
                raise _mistake(problem, key)
            lines[name] = key.start_mark.line + 1

    def _key(self, key: yaml.Node) -> str:
        """A key as JSON has it: YAML's 1 and true are keys "1" and "true"."""
        value = key.value if key.tag == MERGE else self.construct_object(key, deep=True)
        return value if isinstance(value, str) else json.dumps(value)


_ManifestLoader.add_implicit_resolver(
    INT, re.compile(r"[-+]?(0b[01]+|0x[0-9a-fA-F]+|0o?[0-7]*|[1-9][0-9]*)$"), list("-+0123456789")
)
_ManifestLoader.add_implicit_resolver(
    FLOAT, re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"), list("-+0123456789.")
)

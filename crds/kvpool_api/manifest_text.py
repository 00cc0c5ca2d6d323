"""Manifests as people write them: YAML or JSON text, one or more documents."""

import json
import re
from collections.abc import Hashable
from typing import Any, Final

import yaml
from pydantic import JsonValue

from kvpool_api.manifest import Manifest

INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
MERGE: Final = "tag:yaml.org,2002:merge"
REPLACED: Final = frozenset({INT, FLOAT, "tag:yaml.org,2002:timestamp"})
"""Tags whose implicit forms go further than JSON: dates, 12:30 as a number of seconds, 1e3 as a text."""


class UnreadableManifest(ValueError):
    """A text that is no manifest; says the line and what is wrong there."""


def load_manifest(text: str) -> list[Manifest]:
    """The documents of the text, empty ones left out. Raises UnreadableManifest with the line of the mistake.

    Read as kubectl reads them: a key twice in one map is a mistake, keys are strings, and a date is a string.
    """
    try:
        documents = [each for each in yaml.load_all(text, Loader=_ManifestLoader) if each is not None]
    except yaml.MarkedYAMLError as error:
        raise UnreadableManifest(_explained(error)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableManifest(f"not YAML: {error}") from None
    return [_object(each, number) for number, each in enumerate(documents, start=1)]


def _object(document: JsonValue, number: int) -> Manifest:
    if isinstance(document, dict):
        return document
    found = type(document).__name__
    raise UnreadableManifest(f"document {number} is a {found}, not an object; a manifest begins with `apiVersion:`")


def _explained(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f" ({error.context})" if error.context else ""
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
    return f"{where}{error.problem}{context}{hint}"


class _ManifestLoader(yaml.SafeLoader):
    """The safe loader less the conversions that JSON does not know, plus the check for repeated keys."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in REPLACED]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
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

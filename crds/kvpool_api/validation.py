"""What an API server does with an InferencePool, from the CustomResourceDefinition alone.

    manifest ── unknown fields ── defaults ── schema ── list keys ── CEL rules ── the object as GET shows it
                     └───────────────────┴─────────┴───────────┴────────── Invalid, every mistake at once

Two things are left out because nothing here can need them: ratcheting (an object admitted before fits the same schema
still) and status being dropped by a write to the object (the caller decides which part it writes).
"""

from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from kvpool_api.admission import errors
from kvpool_api.admission.cel_rules import broken_rules
from kvpool_api.admission.defaults import with_defaults
from kvpool_api.admission.errors import FieldError, Invalid, UnknownField
from kvpool_api.admission.list_keys import repeated_keys
from kvpool_api.admission.node import Node, read_node
from kvpool_api.admission.object_meta import OBJECT_META
from kvpool_api.admission.schema_errors import schema_errors
from kvpool_api.admission.unknown_fields import unknown_fields
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at, without
from kvpool_api.manifest_text import UnreadableManifest, load_manifest

__all__ = ["Admission", "FieldError", "Invalid", "UnknownField", "UnreadableManifest", "admit", "load_manifest"]


def admit(crd: Manifest, manifest: Manifest, old: Manifest | None = None) -> Manifest:
    """The object with its defaults. Raises Invalid. For more than one object, keep an Admission."""
    return Admission(crd).admit(manifest, old)


class Admission:
    """One CustomResourceDefinition's say over its objects, its schema read and its rules compiled once."""

    def __init__(self, crd: Manifest) -> None:
        version = as_map(as_list(at(crd, ("spec", "versions")))[0])
        group = as_text(at(crd, ("spec", "group")))
        self._kind = as_text(at(crd, ("spec", "names", "kind")))
        self._resource = f"{self._kind}.{group}"
        self._api_version = f"{group}/{as_text(version['name'])}"
        self._root = read_node(at(version, ("schema", "openAPIV3Schema")))

    def admit(self, manifest: Manifest, old: Manifest | None = None) -> Manifest:
        """The object as a GET after the write shows it; `old` is the object before the write.

        Raises Invalid with every mistake found.
        """
        found: list[FieldError] = list(self._kind_errors(manifest))
        if found:  # the schema says nothing about an object of another kind
            raise self._refusal(manifest, found)
        filled = as_map(with_defaults(self._root, manifest))
        found += [*unknown_fields(self._root, manifest), *_metadata_errors(manifest)]
        found += [*schema_errors(self._root, filled), *repeated_keys(self._root, filled)]
        if not any(each.blocks_rules for each in found):
            found += _rule_errors(self._root, filled, old, "")
        else:
            found.append(errors.RULES_NOT_CHECKED)
        if found:
            raise self._refusal(manifest, found)
        return filled

    def _refusal(self, manifest: Manifest, found: Sequence[FieldError]) -> Invalid:
        return Invalid(found, kind=self._kind, name=_name(manifest), resource=self._resource)

    def _kind_errors(self, manifest: Manifest) -> Iterator[FieldError]:
        for field, expected in (("apiVersion", self._api_version), ("kind", self._kind)):
            if manifest.get(field) != expected:
                yield errors.invalid(field, manifest.get(field, ""), f"must be {expected}")


def _name(manifest: Manifest) -> str:
    return as_text(at(manifest, ("metadata", "name")))


def _metadata_errors(manifest: Manifest) -> Iterator[FieldError]:
    """What the CRD's own schema leaves open: it knows that metadata is an object, and the name a string."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return
    yield from schema_errors(OBJECT_META, without(metadata, "name"), "metadata")
    if metadata.get("name") in (None, ""):
        yield errors.required("metadata.name", "name or generateName is required")


def _rule_errors(node: Node, value: JsonValue, old: JsonValue, path: str) -> Iterator[FieldError]:
    """Broken rules of the node, then of what it holds. Items of lists have no old value: none of ours need one."""
    if value is None:
        return
    yield from broken_rules(node.rules, value, old, path)
    if isinstance(value, dict):
        for name, each in value.items():
            child = node.properties.get(name)
            if child:
                yield from _rule_errors(child, each, as_map(old).get(name), f"{path}.{name}".removeprefix("."))
            elif node.values:
                yield from _rule_errors(node.values, each, as_map(old).get(name), f"{path}[{name}]")
    elif isinstance(value, list) and node.items:
        for index, each in enumerate(value):
            yield from _rule_errors(node.items, each, None, f"{path}[{index}]")

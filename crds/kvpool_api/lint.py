"""A linter for the CustomResourceDefinition: Kubernetes' API conventions, as far as a schema shows them.

A bound on every string, list and map (the cost budget of CEL rests on them); no floats and no booleans in what a user
writes; a description on every field; defaults that GET shows; conditions as metav1 has them; columns that print.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from kvpool_api.admission.cel_rules import broken_rules, compiled_rules
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at
from kvpool_api.schema import INT_OR_STRING, LIST_TYPE, PRESERVE_UNKNOWN

LARGEST_BYTES: Final = 256 * 1024
"""`kubectl apply` keeps a copy in an annotation, and annotations hold no more."""
CAMEL_CASE: Final = re.compile(r"[A-Z][A-Za-z0-9]*")
DURATION: Final = re.compile(r"(timeout|interval|period|delay|grace|ttl|duration)$", re.IGNORECASE)
SWITCHES: Final = frozenset({"spec.paused"})
"""Booleans all the same: Deployments, Cluster API and others spell this wish so, and people look for it so."""
CONDITION_FIELDS: Final = ("type", "status", "reason", "message", "lastTransitionTime")


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach: the rule's name, where, and why it matters or what mends it."""

    rule: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the schema and how it came to stand there."""

    path: str
    name: str
    schema: Manifest
    parent: Manifest

    @property
    def type(self) -> str:
        return as_text(self.schema.get("type"))

    @property
    def has_default(self) -> bool:
        return "default" in self.schema

    @property
    def takes_text(self) -> bool:
        return self.type == "string" or self.schema.get(INT_OR_STRING) is True


def lint(crd: Manifest) -> tuple[Finding, ...]:
    """Every breach of every rule; empty for a definition in order."""
    found = [*_of_the_definition(crd)]
    for version in map(as_map, as_list(at(crd, ("spec", "versions")))):
        root = as_map(at(version, ("schema", "openAPIV3Schema")))
        for place in _places(Place("", "", root, {})):
            for name, check in NODE_RULES.items():
                message = check(place)
                if message:
                    found.append(Finding(name, place.path or "the object", message))
        found += _paths_that_lead_nowhere(version, root)
    return tuple(found)


def _places(place: Place) -> Iterator[Place]:
    yield place
    if place.path == "metadata":
        return
    for name, each in as_map(place.schema.get("properties")).items():
        yield from _places(Place(f"{place.path}.{name}".removeprefix("."), name, as_map(each), place.schema))
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "[*]")):
        if keyword in place.schema:
            yield from _places(Place(place.path + suffix, "", as_map(place.schema[keyword]), place.schema))


def _untyped(place: Place) -> str:
    return "" if place.type or place.takes_text else "a structural schema names a type at every node"


def _unbounded_text(place: Place) -> str:
    return (
        "set maxLength" if place.takes_text and "maxLength" not in place.schema and "enum" not in place.schema else ""
    )


def _unbounded_list(place: Place) -> str:
    return "set maxItems" if place.type == "array" and "maxItems" not in place.schema else ""


def _unbounded_map(place: Place) -> str:
    is_map = "additionalProperties" in place.schema
    return "set maxProperties" if is_map and "maxProperties" not in place.schema else ""


def _float(place: Place) -> str:
    return "write a percent, thousandths or a quantity: floats do not round-trip" if place.type == "number" else ""


def _boolean(place: Place) -> str:
    if place.type != "boolean" or place.path in SWITCHES:
        return ""
    return "name the policies in an enum: two values seldom stay enough"


def _default_and_required(place: Place) -> str:
    is_both = place.has_default and place.name in as_list(place.parent.get("required"))
    return "a field with a default is never missing: do not require it" if is_both else ""


def _undescribed(place: Place) -> str:
    is_told = "description" in place.schema or not place.name or place.path == "metadata"
    return "" if is_told else "say what it is: `kubectl explain` shows it"


def _shape_of_conditions(place: Place) -> str:
    if place.name != "conditions":
        return ""
    item = as_map(place.schema.get("items"))
    properties, required = as_map(item.get("properties")), as_list(item.get("required"))
    missing = [each for each in (*CONDITION_FIELDS, "observedGeneration") if each not in properties]
    missing += [f"required {each}" for each in CONDITION_FIELDS if each not in required]
    if place.schema.get("x-kubernetes-list-map-keys") != ["type"]:
        missing.append("a list-type map with the key type")
    if set(as_list(at(properties, ("status", "enum")))) != {"True", "False", "Unknown"}:
        missing.append("True, False and Unknown for status")
    return f"a metav1.Condition has {', '.join(missing)}" if missing else ""


def _enum_in_other_case(place: Place) -> str:
    odd = [each for each in as_list(place.schema.get("enum")) if not CAMEL_CASE.fullmatch(str(each))]
    return f"write enums in CamelCase: {', '.join(map(str, odd))}" if odd else ""


def _list_without_type(place: Place) -> str:
    if place.type != "array":
        return ""
    if LIST_TYPE not in place.schema:
        return f"set {LIST_TYPE}: server-side apply must know how writers share it"
    item = as_map(place.schema.get("items"))
    loose = [key for key in as_list(place.schema.get("x-kubernetes-list-map-keys")) if key not in _settled(item)]
    return f"keys must be required or have a default: {', '.join(map(str, loose))}" if loose else ""


def _settled(item: Manifest) -> list[JsonValue]:
    defaulted = [name for name, each in as_map(item.get("properties")).items() if "default" in as_map(each)]
    return [*as_list(item.get("required")), *defaulted]


def _open_object(place: Place) -> str:
    if place.schema.get(PRESERVE_UNKNOWN) is not True or place.path.endswith("podTemplate.spec"):
        return ""
    return "only a pod template's spec may keep unknown fields"


def _nullable_wish(place: Place) -> str:
    is_wish = place.schema.get("nullable") is True and place.path.startswith("spec")
    return "null means unknown, and a wish is never unknown: leave the field out instead" if is_wish else ""


def _unresolved(place: Place) -> str:
    foreign: list[str] = [each for each in ("$ref", "$defs", "allOf", "oneOf", "not") if each in place.schema]
    if "anyOf" in place.schema and place.schema.get(INT_OR_STRING) is not True:
        foreign.append("anyOf")
    return f"write it out: a structural schema here has no {', '.join(foreign)}" if foreign else ""


def _phase(place: Place) -> str:
    return "say it with conditions: a phase cannot grow" if place.name == "phase" else ""


def _duration_without_unit(place: Place) -> str:
    return "put the unit in the name: …Seconds" if DURATION.search(place.name) else ""


def _rule_without_mend(place: Place) -> str:
    rules = map(as_map, as_list(place.schema.get("x-kubernetes-validations")))
    silent = [as_text(each.get("rule")) for each in rules if not each.get("message")]
    return f"give each rule a message that says the mend: {'; '.join(silent)}" if silent else ""


def _default_that_breaks_a_rule(place: Place) -> str:
    rules = compiled_rules(place.schema.get("x-kubernetes-validations"))
    broken = list(broken_rules(rules, place.schema.get("default"), None, place.path)) if place.has_default else []
    return f"the API server tries the bare default too: {broken[0].message}" if broken else ""


NODE_RULES: Final[dict[str, Callable[[Place], str]]] = {
    "typed": _untyped,
    "structural": _unresolved,
    "bounded-string": _unbounded_text,
    "bounded-list": _unbounded_list,
    "bounded-map": _unbounded_map,
    "no-float": _float,
    "no-boolean": _boolean,
    "default-not-required": _default_and_required,
    "described": _undescribed,
    "conditions": _shape_of_conditions,
    "enum-camel-case": _enum_in_other_case,
    "list-type": _list_without_type,
    "closed": _open_object,
    "not-nullable": _nullable_wish,
    "no-phase": _phase,
    "seconds": _duration_without_unit,
    "rule-message": _rule_without_mend,
    "default-keeps-rules": _default_that_breaks_a_rule,
}


def _of_the_definition(crd: Manifest) -> Iterator[Finding]:
    size = len(json.dumps(crd, separators=(",", ":")))
    if size > LARGEST_BYTES:
        yield Finding("size", "the definition", f"{size} bytes; plain `kubectl apply` takes {LARGEST_BYTES}")
    if "all" in as_list(at(crd, ("spec", "names", "categories"))):
        yield Finding("no-category-all", "spec.names.categories", "`kubectl delete all` would delete GPU pools")
    versions = [as_map(each) for each in as_list(at(crd, ("spec", "versions")))]
    if sum(each.get("storage") is True for each in versions) != 1:
        yield Finding("one-storage-version", "spec.versions", "exactly one version is stored")
    for version in versions:
        if "status" not in as_map(version.get("subresources")):
            yield Finding("status-subresource", f"spec.versions[{version.get('name')}]", "status is a subresource")


def _paths_that_lead_nowhere(version: Manifest, root: Manifest) -> Iterator[Finding]:
    """Columns, selectable fields and scale read what the schema has; a wrong path prints nothing and says nothing."""
    for path, printed in _read_paths(version):
        node = _leads_to(root, path)
        if not node:
            yield Finding("paths", path, "the schema has no such field")
        elif printed and printed not in {node.get("type"), "date"}:
            yield Finding("paths", path, f"a column of type {printed} prints nothing of a {node.get('type')}")


def _read_paths(version: Manifest) -> Iterator[tuple[str, str]]:
    """Each path that the definition reads, with the type it is printed as (empty where it is not)."""
    for column in map(as_map, as_list(version.get("additionalPrinterColumns"))):
        yield as_text(column.get("jsonPath")), as_text(column.get("type"))
    for field in map(as_map, as_list(version.get("selectableFields"))):
        yield as_text(field.get("jsonPath")), ""
    for path in as_map(at(version, ("subresources", "scale"))).values():
        yield as_text(path), ""


def _leads_to(root: Manifest, path: str) -> Manifest:
    node = root
    for name, selector in re.findall(r"\.(\w+)(\[[^\]]*\])?", path):
        if name == "metadata":
            return {"type": "string"}
        node = as_map(as_map(node.get("properties")).get(name))
        node = as_map(node.get("items")) if selector else node
    return node

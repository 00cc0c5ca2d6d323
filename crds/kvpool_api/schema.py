"""Pydantic models as the structural schemas that a CustomResourceDefinition takes.

A structural schema has a type at every node, no `$ref`, no `null` type and no union but int-or-string. Pydantic says
the same things with `$defs`, `anyOf` with null, and `additionalProperties: false`; this is the translation.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, JsonValue

from kvpool_api.manifest import Manifest, as_list, as_map, as_text, without

INT_OR_STRING: Final = "x-kubernetes-int-or-string"
PRESERVE_UNKNOWN: Final = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE: Final = "x-kubernetes-list-type"

_KEPT = ("format", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "maxProperties")
_UNION_BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "pattern")


def structural_schema(model: type[BaseModel], *, for_status: bool = False) -> Manifest:
    """The model as one structural schema.

    Defaults of nested objects shrink to what their own fields' defaults do not say already (`{}` as a rule), because
    an API server fills in from the outside to the inside. In a status, an optional field may be null (unknown, never
    zero), and there are no defaults: it is written whole by its controller, or not yet.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    translation = _Translation(as_map(document.get("$defs")), for_status=for_status)
    return translation.node(document)


class _Translation:
    """One model's JSON schema, its definitions at hand."""

    def __init__(self, definitions: Mapping[str, JsonValue], *, for_status: bool) -> None:
        self._definitions = definitions
        self._for_status = for_status

    def node(self, schema: Manifest) -> Manifest:
        schema = self._resolved(schema)
        variants = [self._resolved(as_map(each)) for each in as_list(schema.get("anyOf"))]
        concrete = [each for each in variants if each.get("type") != "null"]
        if len(concrete) == 1:
            optional = self.node({**concrete[0], **without(schema, "anyOf", "default")})
            return {**optional, "nullable": True} if self._for_status else optional
        if concrete:
            return self._with_default(dict(_int_or_string(schema, concrete)), schema)
        return self._with_default(dict(self._parts(schema)), schema)

    def _resolved(self, schema: Manifest) -> Manifest:
        reference = as_text(schema.get("$ref")).removeprefix("#/$defs/")
        if not reference:
            return schema
        return {**as_map(self._definitions[reference]), **without(schema, "$ref")}

    def _parts(self, schema: Manifest) -> Iterator[tuple[str, JsonValue]]:
        yield from _description(schema)
        yield "type", schema["type"]
        if "const" in schema or "enum" in schema:
            yield "enum", schema.get("enum", [schema.get("const")])
        yield from ((key, schema[key]) for key in _KEPT if key in schema)
        yield from ((key, value) for key, value in schema.items() if key.startswith("x-kubernetes-"))
        if "required" in schema:
            yield "required", schema["required"]
        if "properties" in schema:
            yield "properties", {name: self.node(as_map(each)) for name, each in as_map(schema["properties"]).items()}
        if "items" in schema:
            yield "items", self.node(as_map(schema["items"]))
        values = as_map(schema.get("additionalProperties"))
        if values and PRESERVE_UNKNOWN not in schema:
            yield "additionalProperties", self.node(values)

    def _with_default(self, node: Manifest, schema: Manifest) -> Manifest:
        if self._for_status or schema.get("default") is None:
            return node
        return {**node, "default": minimal_default(schema["default"], node)}


def minimal_default(value: JsonValue, node: Manifest) -> JsonValue:
    """The default less nulls and less what the defaults of the node's own properties fill in."""
    properties = as_map(node.get("properties"))
    if not isinstance(value, dict) or not properties:
        return value
    shrunk = {name: minimal_default(each, as_map(properties[name])) for name, each in value.items() if each is not None}
    return {name: each for name, each in shrunk.items() if as_map(properties[name]).get("default") != each}


def _description(schema: Manifest) -> Iterator[tuple[str, JsonValue]]:
    text = " ".join(as_text(schema.get("description")).split())
    if text:
        yield "description", text


def _int_or_string(schema: Manifest, variants: list[Manifest]) -> Iterator[tuple[str, JsonValue]]:
    """A number or a text: bounds of each stand side by side, since each applies to its own type alone."""
    types = {as_text(each.get("type")) for each in variants}
    if types != {"integer", "string"}:
        raise TypeError(f"a structural schema knows no union of {sorted(types)}")
    yield from _description(schema)
    yield "anyOf", [{"type": "integer"}, {"type": "string"}]
    yield from ((key, each[key]) for each in variants for key in _UNION_BOUNDS if key in each)
    yield INT_OR_STRING, True

"""The definition has no finding, and each rule of the linter finds the flaw that it is for."""

from collections.abc import Callable

import pytest
from kvpool_api.crd import custom_resource_definition, schema_at
from kvpool_api.lint import NODE_RULES, lint
from kvpool_api.manifest import Manifest, as_list, as_map, at

Flaw = Callable[[Manifest, Manifest], None]


def version_of(crd: Manifest) -> Manifest:
    return as_map(as_list(at(crd, ("spec", "versions")))[0])


def planted(field: Manifest, under: str = "spec") -> Flaw:
    """A new described field `planted` in the schema."""

    def plant(crd: Manifest, root: Manifest) -> None:
        as_map(schema_at(root, under)["properties"])["planted"] = {"description": "Planted.", **field}

    return plant


def changed(path: str, **keywords: object) -> Flaw:
    def change(crd: Manifest, root: Manifest) -> None:
        schema_at(root, path).update(keywords)

    return change


def removed(path: str, keyword: str) -> Flaw:
    def remove(crd: Manifest, root: Manifest) -> None:
        del schema_at(root, path)[keyword]

    return remove


def with_rule(**rule: object) -> Flaw:
    return changed("spec.replicas", **{"x-kubernetes-validations": [rule]})


def with_property(under: str, **properties: object) -> Flaw:
    def add(crd: Manifest, root: Manifest) -> None:
        as_map(schema_at(root, under)["properties"]).update(properties)

    return add


def with_names(**names: object) -> Flaw:
    return lambda crd, root: as_map(at(crd, ("spec", "names"))).update(names)


def with_version(**keywords: object) -> Flaw:
    return lambda crd, root: version_of(crd).update(keywords)


TEXT: Manifest = {"type": "string", "maxLength": 9, "description": "T."}
OPEN: Manifest = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
MODEL_AS_NUMBER = {"name": "X", "type": "integer", "jsonPath": ".spec.model.name"}
FLAWS: list[tuple[str, Flaw]] = [
    ("typed", planted({"maxLength": 3})),
    ("structural", planted({**TEXT, "oneOf": []})),
    ("structural", planted({**TEXT, "anyOf": [TEXT]})),
    ("bounded-string", planted({"type": "string"})),
    ("bounded-string", planted({"x-kubernetes-int-or-string": True})),
    ("bounded-list", planted({"type": "array", "items": TEXT, "x-kubernetes-list-type": "atomic"})),
    ("bounded-map", planted({"type": "object", "additionalProperties": TEXT})),
    ("no-float", planted({"type": "number"})),
    ("no-boolean", planted({"type": "boolean"})),
    ("default-not-required", changed("spec", required=["model", "replicas"])),
    ("described", removed("spec.replicas", "description")),
    ("conditions", changed("status.conditions", **{"x-kubernetes-list-map-keys": ["reason"]})),
    ("conditions", changed("status.conditions[]", required=["type", "status", "reason", "lastTransitionTime"])),
    ("conditions", changed("status.conditions[].status", enum=["True", "False"])),
    ("enum-camel-case", planted({"type": "string", "enum": ["Fine", "not-fine"]})),
    ("list-type", planted({"type": "array", "maxItems": 3, "items": TEXT})),
    ("list-type", removed("spec.engine.env[]", "required")),
    ("closed", planted(OPEN)),
    ("not-nullable", planted({"type": "integer", "nullable": True})),
    ("no-phase", with_property("status", phase=TEXT)),
    ("seconds", with_property("spec.drain", gracePeriod={"type": "integer", "description": "G."})),
    ("rule-message", with_rule(rule="self > 0")),
    ("default-keeps-rules", with_rule(rule="self > 1", message="two or more")),
    ("size", changed("spec.replicas", description="x" * 300_000)),
    ("no-category-all", with_names(categories=["kvpool", "all"])),
    ("one-storage-version", with_version(storage=False)),
    ("status-subresource", with_version(subresources={})),
    ("paths", with_version(selectableFields=[{"jsonPath": ".spec.gone"}])),
    ("paths", with_version(additionalPrinterColumns=[MODEL_AS_NUMBER])),
]


def test_the_definition_is_in_order() -> None:
    assert [str(each) for each in lint(custom_resource_definition())] == []


@pytest.mark.parametrize(("rule", "flaw"), FLAWS, ids=[f"{rule}-{index}" for index, (rule, _) in enumerate(FLAWS)])
def test_a_planted_flaw_is_found_and_nothing_else(rule: str, flaw: Flaw) -> None:
    crd = custom_resource_definition()
    flaw(crd, as_map(at(version_of(crd), ("schema", "openAPIV3Schema"))))
    found = lint(crd)
    assert {each.rule for each in found} == {rule}
    assert all(str(each).startswith(f"{each.path}: ") and str(each).endswith(f"[{rule}]") for each in found)


def test_every_rule_has_a_flaw_of_its_own() -> None:
    of_the_definition = {"size", "no-category-all", "one-storage-version", "status-subresource", "paths"}
    assert {rule for rule, _ in FLAWS} == set(NODE_RULES) | of_the_definition

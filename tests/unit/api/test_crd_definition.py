"""The definition that is shipped: generated, valid for Kubernetes 1.37, and complete."""

import json
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kvpool_api.crd import custom_resource_definition, render, schema_at
from kvpool_api.manifest import as_list, as_map, at
from kvpool_api.rules import Rule
from kvpool_api.schema import minimal_default, structural_schema
from pydantic import BaseModel

CRDS = Path(__file__).resolve().parents[3] / "crds"


def test_the_file_is_what_the_models_say() -> None:
    assert (CRDS / "inferencepools.yaml").read_text() == render(), "run `make generate`"


def test_kubernetes_1_37_takes_it() -> None:
    kubernetes_validate.validate(custom_resource_definition(), "1.37", strict=True)


def test_the_text_reads_back_as_the_object_and_has_no_anchors() -> None:
    text = render()
    assert yaml.safe_load(text) == custom_resource_definition()
    assert "&id" not in text


def test_it_is_small_enough_for_plain_apply() -> None:
    assert len(json.dumps(custom_resource_definition())) < 256 * 1024


def test_names_are_ours_and_never_in_the_category_all() -> None:
    names = as_map(at(custom_resource_definition(), ("spec", "names")))
    assert names["shortNames"] == ["kvp"]
    assert names["categories"] == ["kvpool"]
    assert at(custom_resource_definition(), ("metadata", "name")) == "inferencepools.kvpool.dev"


def test_columns_are_those_that_a_pool_is_judged_by() -> None:
    version = as_map(as_list(at(custom_resource_definition(), ("spec", "versions")))[0])
    columns = [as_map(each) for each in as_list(version["additionalPrinterColumns"])]
    shown = [each["name"] for each in columns if "priority" not in each]
    wide = [each["name"] for each in columns if each.get("priority") == 1]
    assert shown == ["MODEL", "READY", "DESIRED", "HIT%", "QUEUE", "WHY", "AGE"]
    assert wide == ["PREDICTED%", "KV%", "ROUTER URL"]
    assert version["selectableFields"] == [{"jsonPath": ".spec.model.name"}]


def test_only_the_pod_templates_specs_are_open() -> None:
    """The engines' and the routers'."""
    lines = [each for each in render().splitlines() if "preserve-unknown-fields" in each]
    assert len(lines) == 2


def test_cache_facts_may_be_unknown_and_wishes_may_not() -> None:
    version = as_map(as_list(at(custom_resource_definition(), ("spec", "versions")))[0])
    root = as_map(at(version, ("schema", "openAPIV3Schema")))
    assert schema_at(root, "status.cache.hitPercent")["nullable"] is True
    assert "nullable" not in json.dumps(schema_at(root, "spec"))
    assert "default" not in schema_at(root, "status.replicas")


def test_a_rule_at_a_path_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        schema_at({"type": "object", "properties": {}}, Rule("spec.gone", "true", "m").path)


def test_a_union_that_a_structural_schema_cannot_say_is_an_error() -> None:
    class Odd(BaseModel):
        either: int | list[int]

    with pytest.raises(TypeError, match="no union of"):
        structural_schema(Odd)


def test_a_default_shrinks_to_what_its_fields_do_not_say() -> None:
    node = {"properties": {"a": {"default": 1}, "b": {"properties": {"c": {"default": 2}}, "default": {}}, "d": {}}}
    assert minimal_default({"a": 1, "b": {"c": 2}, "d": None}, node) == {}
    assert minimal_default({"a": 3, "b": {"c": 2}, "d": 4}, node) == {"a": 3, "d": 4}
    assert minimal_default([1], {"type": "array"}) == [1]

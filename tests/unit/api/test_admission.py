"""Admission without an API server, held to the answers of the real one.

`api_server_answers.json` was written by the API server's own code (`api_server/main.go`, apiextensions-apiserver
v0.37.2). Two of its habits are left out on purpose, since they add a second line about the same mistake: a fraction for
an integer ("Checked value must be of type integer") and a boolean for a quantity ("must validate at least one schema").
"""

import copy
import json
from pathlib import Path

import pytest
import yaml
from kvpool_api.admission.errors import too_long, too_many
from kvpool_api.admission.node import read_node
from kvpool_api.admission.schema_errors import schema_errors
from kvpool_api.crd import custom_resource_definition
from kvpool_api.manifest import Manifest, as_map
from kvpool_api.pool import InferencePool
from kvpool_api.validation import Admission, Invalid, UnknownField, admit
from pydantic import JsonValue

HERE = Path(__file__).parent
ANSWERS = json.loads((HERE / "api_server_answers.json").read_text())
MINIMAL: Manifest = {
    "apiVersion": "kvpool.dev/v1alpha1",
    "kind": "InferencePool",
    "metadata": {"name": "qwen"},
    "spec": {"model": {"name": "Qwen/Qwen3-32B"}},
}


@pytest.fixture(scope="module")
def admission() -> Admission:
    return Admission(custom_resource_definition())


def pool_with(**spec: JsonValue) -> Manifest:
    return {**MINIMAL, "spec": {**as_map(MINIMAL["spec"]), **spec}}


def refusal(admission: Admission, manifest: Manifest) -> Invalid:
    with pytest.raises(Invalid) as caught:
        admission.admit(manifest)
    return caught.value


@pytest.mark.parametrize("answer", ANSWERS, ids=[each["case"] for each in ANSWERS])
def test_the_answer_is_the_api_servers(admission: Admission, answer: dict[str, JsonValue]) -> None:
    expected = {f"unknown {path}" for path in answer["unknown"] or ()}
    expected |= {f"{path}: {message}" for path, message in answer["errors"] or ()}
    try:
        admitted = admission.admit(answer["new"], answer["old"])
    except Invalid as invalid:
        found = {f"unknown {each.path}" if isinstance(each, UnknownField) else str(each) for each in invalid.errors}
        assert found == expected
    else:
        assert not expected
        assert admitted == answer["object"]


def test_a_minimal_pool_shows_every_default(admission: Admission) -> None:
    golden = yaml.safe_load((HERE / "minimal_pool_after_defaults.yaml").read_text())
    assert admission.admit(MINIMAL) == golden


def test_the_models_own_defaults_are_the_ones_that_get_shows(admission: Admission) -> None:
    from_models = InferencePool.model_validate(MINIMAL).spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert admission.admit(MINIMAL)["spec"] == from_models


def test_admitting_again_changes_nothing(admission: Admission) -> None:
    once = admission.admit(MINIMAL)
    assert admission.admit(once, once) == once


def test_the_object_given_stays_as_it_was(admission: Admission) -> None:
    given = copy.deepcopy(MINIMAL)
    admission.admit(given)
    assert given == MINIMAL


def test_one_mistake_is_one_line(admission: Admission) -> None:
    found = refusal(admission, pool_with(replicas=-1))
    detail = "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0"
    assert str(found) == f'The InferencePool "qwen" is invalid: {detail}'
    assert found.server_message == f'InferencePool.kvpool.dev "qwen" is invalid: {detail}'


@pytest.mark.parametrize(
    ("spec", "path", "mend"),
    [
        ({"replicas": "3"}, "spec.replicas", '(given "3"; drop the quotes: 3)'),
        ({"replicas": "three"}, "spec.replicas", '(given "three"; write a whole number)'),
        ({"replicas": 1.5}, "spec.replicas", "(given 1.5; write a whole number)"),
        ({"resources": 4}, "spec.resources", "(given 4; write a map with keys such as limits, requests)"),
        ({"engine": {"args": {"a": "b"}}}, "spec.engine.args", '(given {"a":"b"}; write a list)'),
        ({"engine": {"args": [8]}}, "spec.engine.args[0]", '(given 8; put it in quotes: "8")'),
        ({"model": None}, "spec.model", ""),
    ],
)
def test_a_wrong_type_is_one_line_with_the_api_servers_words_what_was_given_and_the_mend(
    admission: Admission, spec: Manifest, path: str, mend: str
) -> None:
    found = next(each for each in refusal(admission, pool_with(**spec)).errors if each.path == path)
    assert mend in found.for_people
    lines = [line for line in str(refusal(admission, pool_with(**spec))).splitlines() if f"{path}:" in line]
    assert [line.endswith(found.for_people) for line in lines] == [True]


@pytest.mark.parametrize(
    ("schema", "value", "mend"),
    [
        ({"type": "boolean"}, "true", "drop the quotes: true"),
        ({"type": "boolean"}, 1, "write true or false"),
        ({"type": "number"}, "x", "write a number"),
        ({"type": "object"}, [1], "write a map"),
        ({"type": "string"}, ["x" * 99], "xxx...; write a string"),
        ({"type": "string"}, None, "given null; write a value, or drop the line"),
        ({"x-kubernetes-int-or-string": True}, True, "write a whole number"),
    ],
)
def test_each_type_has_its_mend_and_a_large_value_is_cut(schema: Manifest, value: JsonValue, mend: str) -> None:
    (error,) = schema_errors(read_node(schema), value, "x")
    assert error.mend.endswith(mend)
    assert len(error.mend) < 100


def test_that_rules_were_not_checked_is_said_by_the_server_alone(admission: Admission) -> None:
    found = refusal(admission, pool_with(replicas="3"))
    assert "some validation rules were not checked" in found.server_message
    assert "rules were not checked" not in str(found)
    assert "given" not in found.server_message


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ("x", "metadata: Invalid value:"),
        ({"name": 3}, "metadata.name: Invalid value:"),
        ({"name": "x", "labels": {"a": 1}}, "metadata.labels.a: Invalid value:"),
        ({"name": "x", "annotations": 3}, "metadata.annotations: Invalid value:"),
        ({"name": "x", "namespace": ["n"]}, "metadata.namespace: Invalid value:"),
    ],
)
def test_metadata_of_a_wrong_type_is_one_line(admission: Admission, metadata: JsonValue, line: str) -> None:
    found = str(refusal(admission, {**MINIMAL, "metadata": metadata}))
    assert "\n" not in found
    assert f" is invalid: {line}" in found


def test_of_an_object_of_another_kind_nothing_else_is_said(admission: Admission) -> None:
    found = refusal(admission, {"apiVersion": "kvpool.dev/v1alpha1", "kind": "Pod", "spec": {"containers": []}})
    assert [each.path for each in found.errors] == ["kind"]


def test_several_mistakes_are_listed_as_kubectl_lists_them(admission: Admission) -> None:
    found = refusal(admission, pool_with(replicas=-1, rollout={"maxSurge": 0}))
    first, *others = str(found).splitlines()
    assert first == 'The InferencePool "qwen" is invalid:'
    assert [each[:2] for each in others] == ["* ", "* "]
    assert found.server_message.startswith('InferencePool.kvpool.dev "qwen" is invalid: [spec.replicas: ')


def test_an_unknown_field_is_refused_with_the_name_that_was_meant(admission: Admission) -> None:
    found = refusal(admission, pool_with(replica=3))
    assert 'unknown field "spec.replica"; did you mean "replicas"?' in str(found)
    far = refusal(admission, pool_with(zzz=3))
    assert str(far) == 'The InferencePool "qwen" is invalid: unknown field "spec.zzz"'


def test_an_unknown_field_of_metadata_is_refused(admission: Admission) -> None:
    found = refusal(admission, {**MINIMAL, "metadata": {"name": "qwen", "lables": {}}})
    assert 'unknown field "metadata.lables"; did you mean "labels"?' in str(found)


def test_the_neighbours_inference_pool_is_told_apart(admission: Admission) -> None:
    found = refusal(admission, {**MINIMAL, "apiVersion": "inference.networking.k8s.io/v1"})
    assert "must be kvpool.dev/v1alpha1" in str(found)


def test_an_object_without_a_name_is_refused(admission: Admission) -> None:
    found = refusal(admission, {**MINIMAL, "metadata": {}})
    assert "metadata.name: Required value" in str(found)


def test_an_object_of_nothing_is_refused_and_not_a_crash(admission: Admission) -> None:
    assert 'The InferencePool "" is invalid' in str(refusal(admission, {}))


def test_a_rule_that_cannot_be_evaluated_is_an_error_not_a_pass() -> None:
    crd = custom_resource_definition()
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": "self.gone > 1", "message": "m"}]
    with pytest.raises(Invalid, match=r"spec: Invalid value: .*gone.* evaluating rule: m"):
        admit(crd, MINIMAL)


def test_rules_reach_the_values_of_maps() -> None:
    rules = [{"rule": "self != 'x'", "message": "not x"}]
    schema = {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": rules}}
    crd = custom_resource_definition()
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "properties": {"spec": schema, "metadata": {"type": "object"}},
    }
    manifest: Manifest = {**MINIMAL, "spec": {"a": "x", "b": "y"}}
    with pytest.raises(Invalid, match=r'spec\[a\]: Invalid value: "x": not x$'):
        admit(crd, manifest)


@pytest.mark.parametrize(
    ("schema", "value", "detail"),
    [
        ({"type": "array", "minItems": 1}, [], "x in body should have at least 1 items"),
        ({"type": "number", "maximum": 3}, 4, "x in body should be less than or equal to 3"),
        ({"type": "boolean"}, "no", 'must be of type boolean: "string"'),
        ({"type": "integer"}, 1.5, 'must be of type integer: "number"'),
        ({"type": "string", "pattern": "^a$"}, "a\n", "should match"),
    ],
)
def test_bounds_that_no_pool_has_yet_are_kept_too(schema: Manifest, value: JsonValue, detail: str) -> None:
    (error,) = schema_errors(read_node(schema), value, "x")
    assert detail in str(error)


def test_limits_of_one_read_as_english() -> None:
    assert str(too_long("x", 1)) == "x: Too long: may not be more than 1 byte"
    assert str(too_many("x", 2, 1)) == "x: Too many: 2: must have at most 1 item"


@pytest.mark.parametrize(
    ("router", "hint"),
    [
        ({"strategy": "RoundRobin"}, 'did you mean "spec.router.scheduling.strategy"?'),
        ({"scheduling": {"strategy": "round_robin"}}, '(did you mean "RoundRobin"?)'),
    ],
)
def test_a_wrong_place_and_another_spelling_are_told_how_they_are_written(admission, router, hint) -> None:
    found = refusal(admission, pool_with(router=router))
    assert hint in str(found)


def test_a_negative_number_of_devices_is_one_error(admission: Admission) -> None:
    found = refusal(admission, pool_with(resources={"limits": {"nvidia.com/gpu": -2}}))
    assert [each.path for each in found.errors] == ["spec.resources.limits.nvidia.com/gpu"]

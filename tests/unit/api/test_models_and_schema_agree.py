"""The models and the schema generated from them say the same about any spec: two doors, one wall."""

import copy
import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.admission.defaults import with_defaults
from kvpool_api.admission.node import Node, read_node
from kvpool_api.admission.schema_errors import schema_errors
from kvpool_api.admission.unknown_fields import unknown_fields
from kvpool_api.crd import custom_resource_definition
from kvpool_api.manifest import Manifest, as_map
from kvpool_api.schema import structural_schema
from kvpool_api.spec import InferencePoolSpec
from kvpool_api.status import InferencePoolStatus
from kvpool_api.validation import Admission, Invalid
from pydantic import BaseModel, JsonValue, ValidationError

SPEC = read_node(structural_schema(InferencePoolSpec))
STATUS = read_node(structural_schema(InferencePoolStatus, for_status=True))
ADMISSION = Admission(custom_resource_definition())
KEYS = st.text("abcxyz-./09", min_size=1, max_size=6)
TIME = "2026-01-02T03:04:05Z"
ANYTHING: st.SearchStrategy[JsonValue] = st.one_of(
    st.integers(-3, 99),
    st.integers(-3, 2**33),
    st.booleans(),
    st.text("ax/1", max_size=5),
    st.sampled_from(["x" * 9000, "1Gi", "Keep", [], {}, 0.5]),
)


def fitting(node: Node) -> st.SearchStrategy[JsonValue]:
    """Values that fit the node, by its bounds alone."""
    if node.bounds.choices:
        return st.sampled_from(node.bounds.choices)
    if node.types == ("object",):
        return fitting_objects(node)
    if node.types == ("array",):
        assert node.items is not None
        return st.lists(fitting(node.items), max_size=3)
    kinds = {"integer": fitting_integers(node), "string": fitting_texts(node), "boolean": st.booleans()}
    return st.one_of([kinds[each] for each in node.types] + [st.none()] * node.nullable)


def fitting_integers(node: Node) -> st.SearchStrategy[JsonValue]:
    return st.integers(node.bounds.minimum, node.bounds.maximum or 2**31)


def fitting_texts(node: Node) -> st.SearchStrategy[JsonValue]:
    bounds = node.bounds
    if bounds.format == "date-time":
        return st.just(TIME)
    texts = st.from_regex(bounds.pattern, fullmatch=True) if bounds.pattern else st.text(max_size=20)
    return texts.filter(lambda text: (bounds.min_length or 0) <= len(text) <= (bounds.max_length or 0))


def fitting_objects(node: Node) -> st.SearchStrategy[JsonValue]:
    if node.values is not None:
        return st.dictionaries(KEYS, fitting(node.values), max_size=3)
    if node.preserves_unknown:
        return st.dictionaries(KEYS, ANYTHING, max_size=2)
    fields = {name: fitting(each) for name, each in node.properties.items()}
    required = {name: fields.pop(name) for name in node.required}
    return st.fixed_dictionaries(required, optional=fields)


def places(node: Node, value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place inside the value that the schema has a say about."""
    if isinstance(value, dict) and not node.preserves_unknown:
        for name, each in value.items():
            yield (*path, name)
            child = node.properties.get(name, node.values)
            assert child is not None
            yield from places(child, each, (*path, name))
    elif isinstance(value, list) and node.items:
        for index, each in enumerate(value):
            yield (*path, index)
            yield from places(node.items, each, (*path, index))


def with_value_at(value: JsonValue, path: tuple[str | int, ...], new: JsonValue) -> JsonValue:
    spoilt = copy.deepcopy(value)
    inner = spoilt
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return spoilt


def schema_admits(root: Node, value: JsonValue) -> bool:
    return not [*schema_errors(root, value), *unknown_fields(root, as_map(value))]


def model_admits(model: type[BaseModel], value: JsonValue) -> bool:
    try:
        model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


def refusal(manifest: Manifest) -> str:
    """What is wrong with the manifest; empty where it is admitted."""
    try:
        ADMISSION.admit(manifest)
    except Invalid as invalid:
        return str(invalid)
    return ""


SPECS = fitting(SPEC)


@given(SPECS)
def test_what_the_schema_admits_the_models_read_and_write_back(spec: Manifest) -> None:
    assert schema_admits(SPEC, spec)
    read = InferencePoolSpec.model_validate(with_defaults(SPEC, spec))
    written = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert schema_admits(SPEC, written)
    assert InferencePoolSpec.model_validate(written) == read


@given(SPECS)
def test_defaults_of_the_schema_are_the_defaults_of_the_models(spec: Manifest) -> None:
    by_schema = InferencePoolSpec.model_validate(with_defaults(SPEC, spec))
    assert by_schema == InferencePoolSpec.model_validate(spec)


@given(st.data())
def test_one_spoilt_field_is_refused_by_both_or_by_neither(data: st.DataObject) -> None:
    spec = data.draw(SPECS)
    path = data.draw(st.sampled_from(list(places(SPEC, spec))))
    spoilt = with_value_at(spec, path, data.draw(ANYTHING))
    assert schema_admits(SPEC, spoilt) == model_admits(InferencePoolSpec, spoilt)


@given(SPECS, st.sampled_from(["zzz", "image", "max_body_bytes", "Replicas"]))
def test_a_field_that_no_model_has_is_refused_by_both(spec: Manifest, name: str) -> None:
    assert not schema_admits(SPEC, {**spec, name: 1})
    assert not model_admits(InferencePoolSpec, {**spec, name: 1})


@given(SPECS)
def test_every_rule_can_be_evaluated_on_whatever_fits_the_schema(spec: Manifest) -> None:
    manifest: Manifest = {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    assert "evaluating rule" not in refusal(manifest)


@given(fitting(STATUS))
def test_a_status_that_the_schema_admits_the_models_read_and_write_back_whole(status: Manifest) -> None:
    read = InferencePoolStatus.model_validate(status)
    assert schema_admits(STATUS, read.model_dump(mode="json", by_alias=True))

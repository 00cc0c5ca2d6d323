"""What a changed spec is told as: what may hold a credential is named and never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.plan.differences import differences

SECRET = "hf_supersecret"


def told(old, new):
    return list(differences(old, new))


def test_a_plain_field_is_told_with_both_its_values():
    old = {"engine": {"image": "a:1", "blockSize": 16}, "resources": {"limits": {"cpu": "1"}}}
    new = {"engine": {"image": "a:2"}, "resources": {"limits": {"cpu": "2"}}}
    assert told(old, new) == [
        "spec.engine.blockSize: 16 -> unset",
        'spec.engine.image: "a:1" -> "a:2"',
        'spec.resources.limits.cpu: "1" -> "2"',
    ]
    assert told({"a": [1, "x"]}, {"a": [2, "x"]}) == ["spec.a[0]: 1 -> 2"]
    assert told({"a": "x" * 99}, {"a": 1}) == ['spec.a: "' + "x" * 58 + "… -> 1"]


def test_environment_variables_go_by_their_names_wherever_they_stand():
    old = {"engine": {"env": [{"name": "HF_TOKEN", "value": f"{SECRET}_1"}, {"name": "OLD", "value": SECRET}]}}
    new = {"engine": {"env": [{"name": "NEW", "value": SECRET}, {"name": "HF_TOKEN", "value": f"{SECRET}_2"}]}}
    assert told(old, new) == [
        "spec.engine.env HF_TOKEN: changed",
        "spec.engine.env OLD: removed",
        "spec.engine.env NEW: added",
    ]
    env = old["engine"]["env"]
    assert told({"engine": {}}, {"engine": {"env": env[:1]}}) == ["spec.engine.env HF_TOKEN: added"]
    assert told({"engine": {"env": env}}, {"engine": {"env": env[::-1]}}) == ["spec.engine.env: in another order"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (["--api-key", f"{SECRET}1"], ["--api-key", f"{SECRET}2"], ["--api-key: changed"]),
        ([f"--api-key={SECRET}1", "--seed", "1"], [f"--api-key={SECRET}2", "--seed", "1"], ["--api-key: changed"]),
        ([], ["--enforce-eager", f"--api-key={SECRET}"], ["--enforce-eager: added", "--api-key: added"]),
        (["-k", SECRET], [SECRET], ["(no flag): changed"]),
        (["--a", "1", "--b"], ["--b", "--a", "1"], None),
    ],
)
def test_arguments_go_by_their_flags(old, new, words):
    expected = [f"spec.engine.args {each}" for each in words] if words else ["spec.engine.args: in another order"]
    assert told({"engine": {"args": old}}, {"engine": {"args": new}}) == expected


def test_a_pod_template_is_told_by_its_paths_alone():
    def spec(secret, **more):
        container = {"name": "proxy", "command": ["run", secret], "env": [{"name": "KEY", "value": secret}]}
        return {"podTemplate": {"metadata": {"labels": {"env": secret}, **more}, "spec": {"containers": [container]}}}

    assert told(spec("1"), spec("2", annotations={"a": SECRET})) == [
        "spec.podTemplate.metadata.annotations: added",
        "spec.podTemplate.metadata.labels.env: changed",
        "spec.podTemplate.spec.containers[0].command[1]: changed",
        "spec.podTemplate.spec.containers[0].env KEY: changed",
    ]
    assert told({"router": spec("1")}, {"router": {}}) == ["spec.router.podTemplate: removed"]


json = st.recursive(
    st.just(SECRET) | st.integers(0, 2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
places = st.sampled_from([lambda x: {"podTemplate": x}, lambda x: {"router": {"podTemplate": {"spec": x}}}])
items = st.lists(json, max_size=3)
lists = st.sampled_from([lambda x: {"engine": {"env": x}}, lambda x: {"engine": {"args": x}}])


@given(places, json, json)
def test_no_value_of_a_pod_template_is_ever_told(place, old, new):
    found = told(place(old), place(new))
    assert not any(SECRET in each for each in found)
    assert bool(found) == (old != new)


@given(lists, items, items)
def test_no_value_of_an_environment_or_of_arguments_is_ever_told(place, old, new):
    found = told(place(old), place(new))
    assert not any(SECRET in each for each in found)
    assert bool(found) == (old != new)

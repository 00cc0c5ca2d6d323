"""podTemplate over what the operator builds."""

from kvpool_api.spec import PodTemplate
from kvpool_operator.build.template_merge import by_name, merged


def over(base, template):
    return merged({"metadata": {}, "spec": base}, PodTemplate(spec=template))["spec"]


def test_maps_merge_by_key():
    assert over({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": 4}) == {"a": {"x": 1, "y": 3}, "b": 4}


def test_named_items_merge_by_name_and_new_ones_come_last():
    base = {"containers": [{"name": "engine", "image": "i", "env": [{"name": "A", "value": "1"}]}]}
    told = {"containers": [{"name": "more"}, {"name": "engine", "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]}
    assert over(base, told) == {
        "containers": [
            {"name": "engine", "image": "i", "env": [{"name": "A", "value": "2"}, {"name": "B"}]},
            {"name": "more"},
        ]
    }


def test_mounts_merge_by_path_and_ports_by_number():
    assert over({"m": [{"name": "v", "mountPath": "/a"}]}, {"m": [{"name": "w", "mountPath": "/a"}]}) == {
        "m": [{"name": "w", "mountPath": "/a"}]
    }
    assert over({"p": [{"containerPort": 1, "name": "a"}]}, {"p": [{"containerPort": 2}]}) == {
        "p": [{"containerPort": 1, "name": "a"}, {"containerPort": 2}]
    }


def test_lists_without_names_are_replaced_whole():
    assert over({"args": ["a"], "t": [{"key": "x"}]}, {"args": ["b", "c"], "t": []}) == {"args": ["b", "c"], "t": []}


def test_a_null_takes_a_field_away_wherever_it_stands():
    assert over({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": None}}) == {"b": {"d": 3}}
    assert over({}, {"new": {"x": None, "y": 1}, "gone": None}) == {"new": {"y": 1}}


def test_a_value_of_another_kind_replaces_what_was_there():
    assert over({"a": {"b": 1}, "c": [1]}, {"a": 2, "c": {"d": 1}}) == {"a": 2, "c": {"d": 1}}


def test_the_last_of_a_name_is_kept_where_the_first_stood():
    assert by_name({"name": "a", "v": 1}, {"name": "b"}, {"name": "a", "v": 2}) == [
        {"name": "a", "v": 2},
        {"name": "b"},
    ]

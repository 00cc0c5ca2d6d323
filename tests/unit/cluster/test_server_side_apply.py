"""Laws of server-side apply, over objects as hypothesis imagines them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.crd import custom_resource_definition
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.field_tree import Branch, Node, fields_v1, folded, owned, unfolded
from kvpool_operator.cluster.local.merge_rules import rules_for
from kvpool_operator.cluster.local.server_side_apply import Applied, Owner, apply
from kvpool_operator.cluster.seam import Conflict, Refused

POD_RULES = rules_for(seam.POD)
A, B = Owner("a"), Owner("b")

words = st.sampled_from(("red", "green", "blue"))
scalars = st.one_of(words, st.integers(0, 3), st.booleans())
envs = st.lists(st.fixed_dictionaries({"name": words}, optional={"value": words}), unique_by=lambda e: e["name"])
containers = st.lists(
    st.fixed_dictionaries(
        {"name": words},
        optional={"image": words, "args": st.lists(words, max_size=2), "env": envs, "resources": st.just({})},
    ),
    unique_by=lambda container: container["name"],
    max_size=3,
)
pods = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(words, words, max_size=2),
                "finalizers": st.lists(words, unique=True, max_size=2),
            },
        ),
        "spec": st.fixed_dictionaries(
            {}, optional={"containers": containers, "hostname": words, "nodeSelector": st.dictionaries(words, words)}
        ),
    },
)


def tree(manifest: dict[str, Any]) -> Branch:
    found = folded(manifest, POD_RULES)
    assert isinstance(found, Branch)
    return found


def applied(live: Applied | None, manifest: dict[str, Any], owner: Owner, *, force: bool = True) -> Applied:
    base = live or Applied(Branch({}), {})
    return apply(base.tree, base.owners, tree(manifest), owner=owner, force=force)


def leaves(node: Node) -> dict[Any, Any]:
    return dict(_leaves(node, ()))


def _leaves(node: Node, at: tuple[str, ...]) -> Any:  # noqa: ANN401
    if not isinstance(node, Branch):
        yield at, node.value
        return
    for edge, child in node.children.items():
        yield from _leaves(child, (*at, edge))


@given(pods)
def test_folding_loses_nothing(manifest: dict[str, Any]):
    assert unfolded(tree(manifest)) == manifest


@given(pods, pods, pods)
def test_an_apply_makes_what_it_says_true(before: dict[str, Any], other: dict[str, Any], wanted: dict[str, Any]):
    live = applied(applied(None, before, A), other, B)
    now = applied(live, wanted, A)
    assert leaves(tree(wanted)).items() <= leaves(now.tree).items()


@given(pods, pods, pods)
def test_an_apply_twice_is_an_apply_once(before: dict[str, Any], other: dict[str, Any], wanted: dict[str, Any]):
    once = applied(applied(applied(None, before, A), other, B), wanted, A)
    twice = applied(once, wanted, A)
    assert twice == once
    assert unfolded(twice.tree) == unfolded(once.tree)


@given(pods, pods)
def test_an_only_manager_can_take_back_all_it_said(before: dict[str, Any], wanted: dict[str, Any]):
    live = applied(applied(None, before, A), wanted, A)
    assert leaves(live.tree) == leaves(tree(wanted))
    assert leaves(applied(live, {}, A).tree) == {}


@given(pods, pods)
def test_what_one_manager_says_outlives_another_that_lets_go(mine: dict[str, Any], theirs: dict[str, Any]):
    both = applied(applied(None, theirs, B), mine, A)
    left = applied(both, {}, B)
    assert leaves(tree(mine)).items() <= leaves(left.tree).items()


@given(pods, pods)
def test_without_force_either_nothing_of_the_others_changes_or_it_is_a_conflict(
    theirs: dict[str, Any], mine: dict[str, Any]
):
    live = applied(None, theirs, B)
    try:
        now = applied(live, mine, A, force=False)
    except Conflict as conflict:
        assert '"b"' in str(conflict)  # noqa: PT017 - either outcome is lawful
        return
    assert leaves(live.tree).items() <= leaves(now.tree).items()
    assert now.owners.get(B) == live.owners.get(B)


@given(pods, pods)
def test_force_leaves_every_changed_field_with_one_owner(theirs: dict[str, Any], mine: dict[str, Any]):
    live = applied(None, theirs, B)
    now = applied(live, mine, A)
    values = leaves(now.tree)
    said = leaves(tree(theirs))
    shared = now.owners.get(A, frozenset()) & now.owners.get(B, frozenset())
    assert all(values[path] == said[path] for path in shared if path in values and path in said)


@given(containers, containers)
def test_a_list_has_the_order_of_its_last_applier(before: list[dict[str, Any]], wanted: list[dict[str, Any]]):
    live = applied(None, {"spec": {"containers": before}}, B)
    now: Any = unfolded(applied(live, {"spec": {"containers": wanted}}, A).tree)
    names = [c["name"] for c in now["spec"]["containers"]]
    assert [name for name in names if name in [c["name"] for c in wanted]] == [c["name"] for c in wanted]
    assert set(names) == {c["name"] for c in (*before, *wanted)}
    assert len(names) == len(set(names))


def test_what_only_the_live_list_has_keeps_its_place():
    live = applied(None, {"spec": {"containers": [{"name": n} for n in ("x", "a", "y", "b", "z")]}}, B)
    now: Any = unfolded(applied(live, {"spec": {"containers": [{"name": "a"}, {"name": "n"}, {"name": "b"}]}}, A).tree)
    assert [c["name"] for c in now["spec"]["containers"]] == ["x", "a", "n", "y", "b", "z"]


def test_owned_fields_are_written_as_kubernetes_writes_them():
    manifest = {
        "metadata": {"labels": {"app": "a"}, "finalizers": ["f"]},
        "spec": {
            "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "args": ["a"], "resources": {}}
            ]
        },
    }
    assert fields_v1(owned(tree(manifest))) == {
        "f:metadata": {"f:finalizers": {'v:"f"': {}}, "f:labels": {"f:app": {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:args": {},
                    "f:image": {},
                    "f:name": {},
                    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    "f:resources": {},
                }
            }
        },
    }


def test_a_conflict_names_every_manager_and_field():
    live = applied(None, {"metadata": {"labels": {"x": "1", "y": "1"}, "finalizers": ["f"]}}, A)
    live = applied(live, {"spec": {"containers": [{"name": "c", "image": "1"}]}}, B)
    wanted = {"metadata": {"labels": {"x": "2", "y": "2"}}, "spec": {"containers": [{"name": "c", "image": "2"}]}}
    with pytest.raises(Conflict) as conflict:
        applied(live, wanted, Owner("c"), force=False)
    assert str(conflict.value) == (
        'Apply failed with 3 conflicts: conflicts with "a":\n- .metadata.labels.x\n- .metadata.labels.y; '
        'conflict with "b": .spec.containers[name="c"].image'
    )


def test_a_value_replaced_whole_is_a_conflict_with_all_who_own_parts_of_it():
    rules = rules_for(seam.POOL)
    live = apply(Branch({}), {}, folded({"spec": {"x": {"y": 1}}}, rules), owner=A, force=False)
    wanted: Any = folded({"spec": {"x": 5}}, rules)
    with pytest.raises(Conflict, match=r"\.spec\.x\.y"):
        apply(live.tree, live.owners, wanted, owner=B, force=False)
    assert unfolded(apply(live.tree, live.owners, wanted, owner=B, force=True).tree) == {"spec": {"x": 5}}


@pytest.mark.parametrize(
    ("containers", "told"),
    [
        ([{"name": "a"}, {"name": "a"}], "duplicate entries"),
        ([{"image": "a"}], "omits key field 'name'"),
        (["a"], "expected a map"),
    ],
)
def test_a_keyed_list_must_be_keyed(containers: list[Any], told: str):
    with pytest.raises(Refused, match=told):
        tree({"spec": {"containers": containers}})


def test_an_owned_set_item_is_worded_as_an_item():
    from kvpool_operator.cluster.local.field_tree import spoken

    (path,) = owned(tree({"metadata": {"finalizers": ["f"]}}))
    assert spoken(path) == '.metadata.finalizers[="f"]'


def keyed_lists(schema: dict[str, Any], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Lists of the pool's schema that merge by keys."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    if schema.get("x-kubernetes-list-type") == "map":
        found[at] = tuple(schema["x-kubernetes-list-map-keys"])
    for name, child in schema.get("properties", {}).items():
        found |= keyed_lists(child, (*at, name))
    return found | (keyed_lists(schema["items"], at) if "items" in schema else {})


def test_a_pools_lists_merge_as_its_schema_says():
    (version,) = custom_resource_definition()["spec"]["versions"]
    rules = {path: key.fields for path, key in rules_for(seam.POOL).keyed.items() if path[0] != "metadata"}
    assert rules == keyed_lists(version["schema"]["openAPIV3Schema"])

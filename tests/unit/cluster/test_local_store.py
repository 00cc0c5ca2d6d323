"""What the store does beyond the contract: it has no clock and no processes of its own here."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_contract import config_map, deployment, owned_by, pool
from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.history import History, Record, Selection, seen_by
from kvpool_operator.cluster.local.owners import orphans
from kvpool_operator.cluster.local.store import Store
from kvpool_operator.cluster.seam import Conflict, Expired, NotFound, Ref, Refused

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PODS = Selection(seam.POD, None, {})


def accept(new: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
    return new


@pytest.fixture
def store() -> Store:
    return Store(admit=accept, clock=lambda: NOON)


def pod(name: str = "a", **metadata: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 40},
    }


def applied(store: Store, manifest: dict[str, Any]) -> dict[str, Any]:
    made: Any = store.apply(manifest, manager="m", force=True)
    return dict(made)


def ref(manifest: dict[str, Any]) -> Ref:
    return Ref(seam.KINDS[manifest["kind"]], manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def test_what_it_returns_is_the_callers_to_change(store: Store):
    made = applied(store, config_map("a", "default", data={"k": "v"}))
    made["data"]["k"] = "changed"
    assert store.get(ref(made))["data"] == {"k": "v"}


def test_the_text_of_a_secret_is_kept_as_data(store: Store):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default"},
        "stringData": {"token": "t"},
        "data": {"other": "eA=="},
    }
    made = applied(store, secret)
    assert made["data"] == {"token": base64.b64encode(b"t").decode(), "other": "eA=="}
    assert "stringData" not in made


def test_nulls_of_built_in_objects_are_nothing(store: Store):
    manifest = config_map("a", "default", data={"k": "v"}) | {"immutable": None}
    assert "immutable" not in applied(store, manifest)


def test_a_deleted_pod_stays_marked_until_it_is_removed(store: Store):
    made = applied(store, pod())
    store.delete(ref(made), uid=made["metadata"]["uid"])
    marked: Any = store.get(ref(made))
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-01T12:00:40Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 40
    assert marked["metadata"]["generation"] == 2
    store.remove(ref(made), uid="another")
    store.remove(ref(made), uid=made["metadata"]["uid"])
    store.remove(ref(made), uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        store.get(ref(made))


def test_a_grace_period_can_be_shortened_and_never_lengthened(store: Store):
    made = applied(store, pod())
    for asked, kept in ((20, 20), (30, 20), (5, 5)):
        store.delete(ref(made), uid=made["metadata"]["uid"], grace_s=asked)
        assert store.get(ref(made))["metadata"]["deletionGracePeriodSeconds"] == kept
    assert store.get(ref(made))["metadata"]["generation"] == 2


def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_off(store: Store):
    made = applied(store, config_map("a", "default", finalizers=["kvpool.dev/hold"]))
    store.delete(ref(made), uid=made["metadata"]["uid"])
    assert "deletionTimestamp" in store.get(ref(made))["metadata"]
    applied(store, config_map("a", "default", data={"still": "here"}, finalizers=["kvpool.dev/hold"]))
    gone = applied(store, config_map("a", "default"))
    assert "finalizers" not in gone["metadata"]
    with pytest.raises(NotFound):
        store.get(ref(made))


def test_a_new_object_cannot_be_born_deleted(store: Store):
    with pytest.raises(Refused, match="deletionTimestamp"):
        applied(store, config_map("a", "default", deletionTimestamp="2026-01-01T00:00:00Z"))


@pytest.mark.parametrize("name", ["uid", "resourceVersion"])
def test_identity_in_an_apply_is_a_precondition(store: Store, name: str):
    with pytest.raises(Conflict, match=name):
        applied(store, config_map("a", "default", **{name: "7"}))
    made = applied(store, config_map("a", "default"))
    again = applied(store, config_map("a", "default", data={"k": "v"}, **{name: made["metadata"][name]}))
    assert again["data"] == {"k": "v"}


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"apiVersion": "v2", "kind": "Pod", "metadata": {"name": "a"}}, "no matches for kind"),
        ({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}, "no matches for kind"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}, "spec.containers: Required value"),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}},
            r"spec.containers\[0\].image: Required value",
        ),
        (deployment("d", "default"), "spec.template.spec.containers: Required value"),
        (
            deployment("d", "default") | {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {}}},
            "does not match template",
        ),
    ],
)
def test_nonsense_is_refused(store: Store, manifest: dict[str, Any], told: str):
    with pytest.raises(Refused, match=told):
        applied(store, manifest)


def test_the_selector_of_a_deployment_cannot_change(store: Store):
    container = {"name": "c", "image": "i"}
    applied(store, deployment("d", "default", container))
    changed = deployment("d", "default", container)
    changed["spec"]["selector"]["matchLabels"] = {"app": "other"}
    with pytest.raises(Refused, match="immutable"):
        applied(store, changed)


def test_what_admission_refuses_is_refused_in_its_words():
    def refuse(new: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        raise ValueError("spec.replicas: too many")

    with pytest.raises(Refused, match="too many"):
        applied(Store(admit=refuse, clock=lambda: NOON), pool("p", "default"))


def test_admission_sees_what_was_there_before():
    seen: list[dict[str, Any] | None] = []

    def look(new: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        seen.append(old)
        return new

    store = Store(admit=look, clock=lambda: NOON)
    applied(store, pool("p", "default", replicas=1))
    applied(store, pool("p", "default", replicas=2))
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1]["spec"]["replicas"] == 1


def test_only_objects_all_of_whose_owners_are_gone_are_orphans(store: Store):
    owners = [applied(store, config_map(name, "default")) for name in ("x", "y")]
    references = [reference for owner in owners for reference in owned_by(owner)]
    applied(store, config_map("child", "default", ownerReferences=references))
    assert orphans(store.objects()) == []
    store.delete(ref(owners[0]), uid=owners[0]["metadata"]["uid"])
    assert orphans(store.objects()) == []
    store.delete(ref(owners[1]), uid=owners[1]["metadata"]["uid"])
    assert [orphan["metadata"]["name"] for orphan in orphans(store.objects())] == ["child"]


def test_an_orphan_on_its_way_out_is_left_alone(store: Store):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o", "uid": "never-was"}}
    made = applied(store, pod("child", ownerReferences=owned_by(owner)))
    assert len(orphans(store.objects())) == 1
    store.delete(ref(made), uid=made["metadata"]["uid"])
    assert orphans(store.objects()) == []


async def test_a_watch_that_falls_too_far_behind_is_expired(store: Store):
    store = Store(admit=accept, clock=lambda: NOON, history=3)
    changes = store.watch(Selection(seam.CONFIG_MAP, None, {}), store.resource_version)
    applied(store, config_map("a", "default"))
    assert (await anext(changes)).type == "ADDED"
    for turn in range(5):
        applied(store, config_map("a", "default", data={"turn": str(turn)}))
    with pytest.raises(Expired, match="list again"):
        await anext(changes)


async def test_a_version_from_the_future_is_expired(store: Store):
    with pytest.raises(Expired):
        await anext(store.watch(PODS, "7"))


async def test_moved_returns_with_the_next_write(store: Store):
    version = store.resource_version
    waiting = asyncio.ensure_future(store.moved(version))
    await asyncio.sleep(0)
    assert not waiting.done()
    applied(store, config_map("a", "default"))
    await waiting


labels = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)
states = st.lists(st.one_of(st.none(), labels), min_size=1, max_size=8)


@given(states, labels)
def test_a_watch_replayed_gives_the_set_that_a_list_would(lives: list[dict[str, str] | None], wanted: dict[str, str]):
    """An object through changes of its labels, removals (None) and returns: replaying its changes tells if it is in."""
    selection, history = Selection(seam.CONFIG_MAP, "ns", wanted), History(100)
    before: Any = None
    for state in lives:
        after: Any = {"metadata": {"name": "o", "labels": state or {}}}
        if state is None and before is None:
            continue
        gone = state is None
        history.add(Record(history.latest + 1, seam.CONFIG_MAP, "ns", before, before if gone else after, gone))
        before = None if gone else after
    present = False
    for record in history.since(0):
        for change in seen_by(selection, record):
            assert (change.type == "ADDED") == (not present)
            present = change.type != "DELETED"
    is_in = before is not None and wanted.items() <= before["metadata"]["labels"].items()
    assert present == is_in


def test_a_watch_of_a_namespace_sees_no_other():
    record = Record(1, seam.POD, "other", None, {"metadata": {"name": "a"}})
    assert list(seen_by(Selection(seam.POD, "ns", {}), record)) == []
    assert list(seen_by(Selection(seam.SERVICE, None, {}), record)) == []

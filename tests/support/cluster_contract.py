"""What every implementation of the `Cluster` seam must do, however it is made.

A test module makes a class of it, with two fixtures of its own:

    class TestLocalCluster(ClusterContract):
        cluster      a running Cluster, able to hold InferencePools
        namespace    a namespace that exists and holds nothing of other tests
        forgotten    an async callable: makes changes until the version that it is given can no longer be watched from
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import (
    AlreadyExists,
    Change,
    Cluster,
    Expired,
    FieldConflict,
    NotFound,
    Ref,
    Refused,
    Stale,
)

Forget = Callable[[str], Awaitable[None]]
DEADLINE_S = 30


def config_map(
    name: str, namespace: str, *, data: Mapping[str, str] | None = None, **metadata: object
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        **({"data": dict(data)} if data is not None else {}),
    }


def pool(name: str, namespace: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"name": "meta-llama/Llama-3.1-8B-Instruct"}, **spec},
    }


def deployment(name: str, namespace: str, *containers: Mapping[str, Any], replicas: int | None = 0) -> dict[str, Any]:
    """A Deployment of no replicas, unless told: nothing runs."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **({"replicas": replicas} if replicas is not None else {}),
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": list(containers)}},
        },
    }


def never_scheduled_pod(name: str, namespace: str, **metadata: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "registry.invalid/nothing:1"}],
        },
    }


def event_about(manifest: Mapping[str, Any], name: str, *, uid: str, time: str) -> dict[str, Any]:
    namespace = manifest["metadata"]["namespace"]
    about = {"kind": manifest["kind"], "namespace": namespace, "name": manifest["metadata"]["name"], "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about,
        "reason": "FailedMount",
        "message": f"words of {name}",
        "type": "Warning",
        "lastTimestamp": time,
    }


def owned_by(owner: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def ref(manifest: Mapping[str, Any]) -> Ref:
    metadata = manifest["metadata"]
    return Ref(seam.KINDS[manifest["kind"]], metadata["namespace"], metadata["name"])


async def gone(cluster: Cluster, wanted: Ref) -> None:
    """Wait until there is no such object."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await cluster.get(wanted)
            except NotFound:
                return
            await asyncio.sleep(0.02)


async def following(changes: AsyncGenerator[Change, None], count: int) -> list[tuple[str, str]]:
    """The next `count` changes as (type, name)."""
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(DEADLINE_S), aclosing(changes):
        async for change in changes:
            seen.append((change.type, str(change.object["metadata"]["name"])))
            if len(seen) == count:
                return seen
    raise AssertionError("the watch ended")


class ClusterContract:
    """Laws of the seam; each test makes what it needs."""

    # writing

    async def test_apply_creates_with_identity_and_get_returns_it(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(config_map("a", namespace, data={"k": "v"}), manager="m", force=False)
        assert made["data"] == {"k": "v"}
        assert made["metadata"]["uid"]
        assert made["metadata"]["creationTimestamp"].endswith("Z")
        assert int(made["metadata"]["resourceVersion"]) > 0
        assert await cluster.get(ref(made)) == made

    async def test_an_apply_that_changes_nothing_moves_nothing(self, cluster: Cluster, namespace: str):
        first = await cluster.apply(config_map("a", namespace, data={"k": "v"}), manager="m", force=True)
        again = await cluster.apply(config_map("a", namespace, data={"k": "v"}), manager="m", force=True)
        assert again == first

    async def test_what_an_applier_leaves_out_goes_and_what_others_own_stays(self, cluster: Cluster, namespace: str):
        await cluster.apply(config_map("a", namespace, data={"x": "1", "y": "1"}), manager="m", force=False)
        await cluster.apply(config_map("a", namespace, data={"z": "1"}), manager="other", force=False)
        left: Any = await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager="m", force=False)
        assert left["data"] == {"x": "1", "z": "1"}

    async def test_a_changed_field_of_another_manager_is_a_conflict_that_names_both(
        self, cluster: Cluster, namespace: str
    ):
        await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager="first", force=False)
        with pytest.raises(FieldConflict, match=r'(?s)1 conflict.*"first".*\.data\.x'):
            await cluster.apply(config_map("a", namespace, data={"x": "2"}), manager="second", force=False)
        kept: Any = await cluster.get(Ref(seam.CONFIG_MAP, namespace, "a"))
        assert kept["data"] == {"x": "1"}

    async def test_force_takes_a_field_over_for_good(self, cluster: Cluster, namespace: str):
        await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager="first", force=False)
        taken: Any = await cluster.apply(config_map("a", namespace, data={"x": "2"}), manager="second", force=True)
        assert taken["data"] == {"x": "2"}
        with pytest.raises(FieldConflict, match="second"):
            await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager="first", force=False)

    async def test_equal_values_are_owned_together_until_both_let_go(self, cluster: Cluster, namespace: str):
        for manager in ("first", "second"):
            await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager=manager, force=False)
        one: Any = await cluster.apply(config_map("a", namespace, data={}), manager="first", force=False)
        assert one["data"] == {"x": "1"}
        none: Any = await cluster.apply(config_map("a", namespace, data={}), manager="second", force=False)
        assert not none.get("data")

    async def test_managed_fields_say_who_owns_what(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(
            config_map("a", namespace, data={"x": "1"}, labels={"app": "a"}), manager="m", force=False
        )
        (entry,) = made["metadata"]["managedFields"]
        assert (entry["manager"], entry["operation"], entry["fieldsType"]) == ("m", "Apply", "FieldsV1")
        assert entry["fieldsV1"]["f:data"]["f:x"] == {}
        assert entry["fieldsV1"]["f:metadata"]["f:labels"]["f:app"] == {}

    async def test_a_uid_in_an_apply_is_a_precondition(self, cluster: Cluster, namespace: str):
        await cluster.apply(config_map("a", namespace), manager="m", force=False)
        for name in ("a", "gone"):
            with pytest.raises(Stale):
                await cluster.apply(config_map(name, namespace, uid="another"), manager="m", force=True)
        with pytest.raises(NotFound):
            await cluster.get(Ref(seam.CONFIG_MAP, namespace, "gone"))

    async def test_a_uid_in_an_apply_to_status_is_a_precondition_too(self, cluster: Cluster, namespace: str):
        await cluster.create(pool("p", namespace), manager="m")
        await cluster.create(never_scheduled_pod("a", namespace), manager="m")
        conditions = [{"type": "kvpool.dev/routable", "status": "True"}]
        for manifest, status in (
            (pool("p", namespace), {"replicas": 1}),
            (never_scheduled_pod("a", namespace), {"conditions": conditions}),
        ):
            meta = {**manifest["metadata"], "uid": "another"}
            written = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": meta}
            with pytest.raises(Stale):
                await cluster.apply({**written, "status": status}, manager="s", force=True, subresource="status")

    async def test_a_mark_goes_with_an_apply_that_leaves_it_out_and_nothing_else_does(
        self, cluster: Cluster, namespace: str
    ):
        mine = config_map("a", namespace, data={"x": "1"}, annotations={"mine": "1"})
        made: Any = await cluster.apply(mine, manager="m", force=True)
        uid = made["metadata"]["uid"]
        for told in ({"mark": "set"}, {}):
            marked = config_map("a", namespace, uid=uid, annotations=told)
            seen: Any = await cluster.apply(marked, manager="marks", force=True)
            assert seen["metadata"]["annotations"] == {"mine": "1", **told}
        assert seen["data"] == {"x": "1"}

    async def test_create_makes_what_is_not_there_and_leaves_alone_what_is(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.create(config_map("a", namespace, data={"x": "1"}), manager="m")
        assert made["data"] == {"x": "1"}
        (entry,) = made["metadata"]["managedFields"]
        assert (entry["manager"], entry["operation"]) == ("m", "Apply")
        with pytest.raises(AlreadyExists, match='"a" already exists'):
            await cluster.create(config_map("a", namespace, data={"x": "2"}), manager="m")
        assert await cluster.get(ref(made)) == made
        with pytest.raises(Refused, match=r"spec\.replicas"):
            await cluster.create(pool("p", namespace, replicas=-1), manager="m")

    async def test_what_create_made_an_apply_of_the_same_manager_takes_away_again(
        self, cluster: Cluster, namespace: str
    ):
        await cluster.create(config_map("a", namespace, data={"x": "1", "y": "1"}), manager="m")
        left: Any = await cluster.apply(config_map("a", namespace, data={"x": "1"}), manager="m", force=True)
        assert left["data"] == {"x": "1"}

    async def test_of_two_that_create_at_once_one_does(self, cluster: Cluster, namespace: str):
        both = [cluster.create(config_map("a", namespace, data={"x": who}), manager=who) for who in ("m", "n")]
        told = await asyncio.gather(*both, return_exceptions=True)
        assert [type(each) for each in told if isinstance(each, Exception)] == [AlreadyExists]
        (made,) = [each for each in told if isinstance(each, dict)]
        assert await cluster.get(Ref(seam.CONFIG_MAP, namespace, "a")) == made

    async def test_create_does_not_join_what_is_on_its_way_out(self, cluster: Cluster, namespace: str):
        kept = config_map("a", namespace, finalizers=["kvpool.dev/test"])
        made: Any = await cluster.create(kept, manager="m")
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])
        ending: Any = await cluster.get(ref(made))
        assert ending["metadata"]["deletionTimestamp"]
        with pytest.raises(AlreadyExists):
            await cluster.create(config_map("a", namespace), manager="m")

    # lists

    async def test_containers_and_env_merge_by_name(self, cluster: Cluster, namespace: str):
        ours = {"name": "main", "image": "registry.invalid/a:1", "env": [{"name": "A", "value": "1"}]}
        await cluster.apply(deployment("d", namespace, ours), manager="us", force=False)
        theirs = {"name": "main", "env": [{"name": "B", "value": "2"}]}
        sidecar = {"name": "side", "image": "registry.invalid/b:1"}
        patch = deployment("d", namespace, theirs, sidecar, replicas=None)
        merged: Any = await cluster.apply(patch, manager="them", force=False)
        containers = {c["name"]: c for c in merged["spec"]["template"]["spec"]["containers"]}
        assert set(containers) == {"main", "side"}
        assert {e["name"]: e["value"] for e in containers["main"]["env"]} == {"A": "1", "B": "2"}
        assert containers["main"]["image"] == "registry.invalid/a:1"

    async def test_items_that_an_applier_leaves_out_go_from_a_keyed_list(self, cluster: Cluster, namespace: str):
        def made_of(*names: str) -> dict[str, Any]:
            env = [{"name": name, "value": "1"} for name in names]
            ports = [{"name": name.lower(), "containerPort": 8000 + len(name)} for name in names]
            return deployment(
                "d", namespace, {"name": "main", "image": "registry.invalid/a:1", "env": env, "ports": ports}
            )

        await cluster.apply(made_of("A", "BB"), manager="us", force=False)
        left: Any = await cluster.apply(made_of("BB", "CCC"), manager="us", force=False)
        (container,) = left["spec"]["template"]["spec"]["containers"]
        assert [e["name"] for e in container["env"]] == ["BB", "CCC"]
        assert [p["containerPort"] for p in container["ports"]] == [8002, 8003]

    async def test_an_atomic_list_is_replaced_whole(self, cluster: Cluster, namespace: str):
        def made_with(*args: str) -> dict[str, Any]:
            return deployment("d", namespace, {"name": "main", "image": "registry.invalid/a:1", "args": list(args)})

        await cluster.apply(made_with("a", "b"), manager="us", force=False)
        changed: Any = await cluster.apply(made_with("b"), manager="us", force=False)
        assert changed["spec"]["template"]["spec"]["containers"][0]["args"] == ["b"]
        with pytest.raises(FieldConflict, match=r'containers\[name="main"\]\.args'):
            await cluster.apply(made_with("c"), manager="them", force=False)

    # generation and status

    async def test_generation_moves_with_the_spec_and_with_nothing_else(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(pool("p", namespace, replicas=1), manager="m", force=False)
        assert made["metadata"]["generation"] == 1
        labelled = pool("p", namespace, replicas=1)
        labelled["metadata"]["labels"] = {"team": "a"}
        assert (await self._generation(cluster, labelled)) == 1
        assert (await self._generation(cluster, pool("p", namespace, replicas=2))) == 2

    async def _generation(self, cluster: Cluster, manifest: dict[str, Any]) -> int:
        applied: Any = await cluster.apply(manifest, manager="m", force=False)
        return int(applied["metadata"]["generation"])

    async def test_status_is_written_through_its_subresource_alone(self, cluster: Cluster, namespace: str):
        hopeful = pool("p", namespace) | {"status": {"replicas": 9}}
        made: Any = await cluster.apply(hopeful, manager="m", force=False)
        assert made.get("status", {}).get("replicas", 0) == 0
        written = pool("p", namespace, replicas=7) | {"status": {"replicas": 3}}
        seen: Any = await cluster.apply(written, manager="s", force=False, subresource="status")
        assert seen["status"]["replicas"] == 3
        assert seen["spec"]["replicas"] == 1
        assert seen["metadata"]["generation"] == 1
        again: Any = await cluster.apply(pool("p", namespace), manager="m", force=False)
        assert again["status"]["replicas"] == 3

    async def test_conditions_of_two_managers_stand_side_by_side(self, cluster: Cluster, namespace: str):
        await cluster.apply(pool("p", namespace), manager="m", force=False)
        for kind in ("Ready", "Degraded"):
            condition = {
                "type": kind,
                "status": "True",
                "reason": "Because",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            manifest = {**pool("p", namespace), "status": {"conditions": [condition]}}
            del manifest["spec"]
            await cluster.apply(manifest, manager=f"writes-{kind}", force=False, subresource="status")
        seen: Any = await cluster.get(Ref(seam.POOL, namespace, "p"))
        assert {c["type"] for c in seen["status"]["conditions"]} == {"Ready", "Degraded"}

    async def test_status_of_what_does_not_exist_is_not_found(self, cluster: Cluster, namespace: str):
        with pytest.raises(NotFound):
            await cluster.apply(
                pool("p", namespace) | {"status": {"replicas": 1}}, manager="s", force=True, subresource="status"
            )

    # what a cluster refuses

    async def test_defaults_of_the_schema_are_visible(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(pool("p", namespace), manager="m", force=False)
        assert made["spec"]["replicas"] == 1
        assert made["spec"]["rollout"] == {"maxSurge": 1, "maxUnavailable": 0, "onOperatorUpgrade": "Keep"}

    async def test_an_invalid_pool_is_refused_with_its_field(self, cluster: Cluster, namespace: str):
        with pytest.raises(Refused, match=r'(?s)"p" is invalid.*spec\.replicas'):
            await cluster.apply(pool("p", namespace, replicas=-1), manager="m", force=False)
        with pytest.raises(NotFound):
            await cluster.get(Ref(seam.POOL, namespace, "p"))

    async def test_a_field_that_nobody_knows_is_refused_and_not_lost(self, cluster: Cluster, namespace: str):
        with pytest.raises(Refused, match="nonsense"):
            await cluster.apply(pool("p", namespace, nonsense=1), manager="m", force=False)
        await cluster.apply(pool("p", namespace), manager="m", force=False)
        unknown = pool("p", namespace) | {"status": {"nonsense": 1}}
        with pytest.raises(Refused, match="nonsense"):
            await cluster.apply(unknown, manager="s", force=True, subresource="status")

    async def test_the_models_name_cannot_change(self, cluster: Cluster, namespace: str):
        await cluster.apply(pool("p", namespace), manager="m", force=False)
        with pytest.raises(Refused, match=r"spec\.model"):
            await cluster.apply(pool("p", namespace, model={"name": "another"}), manager="m", force=False)

    async def test_a_name_that_is_none_is_refused(self, cluster: Cluster, namespace: str):
        with pytest.raises(Refused, match=r"metadata\.name"):
            await cluster.apply(config_map("Not A Name", namespace), manager="m", force=False)

    # deleting

    async def test_delete_takes_the_object_with_that_uid_and_no_other(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(config_map("a", namespace), manager="m", force=False)
        with pytest.raises(NotFound):
            await cluster.delete(ref(made), uid="00000000-0000-0000-0000-000000000000")
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])
        with pytest.raises(NotFound):
            await cluster.get(ref(made))
        with pytest.raises(NotFound):
            await cluster.delete(ref(made), uid=made["metadata"]["uid"])

    async def test_a_deleted_pod_goes_and_its_name_can_be_used_again(self, cluster: Cluster, namespace: str):
        manifest = never_scheduled_pod("a", namespace)
        made: Any = await cluster.apply(manifest, manager="m", force=False)
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])
        await gone(cluster, ref(made))
        again: Any = await cluster.apply(manifest, manager="m", force=False)
        assert again["metadata"]["uid"] != made["metadata"]["uid"]
        await cluster.delete(ref(again), uid=again["metadata"]["uid"], grace_s=0)
        await gone(cluster, ref(again))

    async def test_the_spec_of_a_pod_cannot_change(self, cluster: Cluster, namespace: str):
        made: Any = await cluster.apply(never_scheduled_pod("a", namespace), manager="m", force=False)
        changed = never_scheduled_pod("a", namespace)
        changed["spec"]["containers"][0]["args"] = ["--other"]
        with pytest.raises(Refused, match="may not change fields"):
            await cluster.apply(changed, manager="m", force=True)
        await cluster.delete(ref(made), uid=made["metadata"]["uid"], grace_s=0)

    async def test_a_pod_that_has_not_run_has_no_log_and_a_missing_one_is_not_found(
        self, cluster: Cluster, namespace: str
    ):
        idle = await cluster.apply(never_scheduled_pod("idle", namespace), manager="m", force=True)
        assert await cluster.ended_log(ref(idle), container="main", lines=10) == ""
        with pytest.raises(NotFound):
            await cluster.ended_log(Ref(seam.POD, namespace, "nobody"), container="main", lines=10)

    async def test_the_latest_event_about_an_object_is_found_by_its_uid(self, cluster: Cluster, namespace: str):
        about = never_scheduled_pod("a", namespace)
        assert await cluster.latest_event(ref(about), uid="u") is None
        for name, uid, time in (("e1", "u", "T10:00:02Z"), ("e2", "u", "T10:00:01Z"), ("e3", "other", "T10:00:03Z")):
            await cluster.apply(event_about(about, name, uid=uid, time=f"2026-01-01{time}"), manager="m", force=True)
        latest: Any = await cluster.latest_event(ref(about), uid="u")
        assert (latest["kind"], latest["metadata"]["name"], latest["message"]) == ("Event", "e1", "words of e1")

    async def test_what_an_owner_owns_goes_with_it(self, cluster: Cluster, namespace: str):
        owner: Any = await cluster.apply(config_map("owner", namespace), manager="m", force=False)
        for name in ("child-a", "child-b"):
            child = config_map(name, namespace, ownerReferences=owned_by(owner))
            await cluster.apply(child, manager="m", force=False)
        await cluster.apply(config_map("stranger", namespace), manager="m", force=False)
        await cluster.delete(ref(owner), uid=owner["metadata"]["uid"])
        for name in ("child-a", "child-b"):
            await gone(cluster, Ref(seam.CONFIG_MAP, namespace, name))
        await cluster.get(Ref(seam.CONFIG_MAP, namespace, "stranger"))

    async def test_a_child_of_an_owner_that_is_no_more_goes_too(self, cluster: Cluster, namespace: str):
        owner: Any = await cluster.apply(config_map("owner", namespace), manager="m", force=False)
        await cluster.delete(ref(owner), uid=owner["metadata"]["uid"])
        await cluster.apply(config_map("late", namespace, ownerReferences=owned_by(owner)), manager="m", force=False)
        await gone(cluster, Ref(seam.CONFIG_MAP, namespace, "late"))

    # reading

    async def test_a_list_holds_the_objects_with_all_labels(self, cluster: Cluster, namespace: str):
        for name, labels in (("a", {"x": "1", "y": "1"}), ("b", {"x": "1"}), ("c", {"x": "2", "y": "1"})):
            await cluster.apply(config_map(name, namespace, labels=labels), manager="m", force=False)

        async def names(**labels: str) -> list[str]:
            listing: Any = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels=labels)
            return [item["metadata"]["name"] for item in listing.items if item["metadata"]["name"] in "abc"]

        assert await names(x="1") == ["a", "b"]
        assert await names(x="1", y="1") == ["a"]
        assert await names() == ["a", "b", "c"]
        everywhere: Any = await cluster.list(seam.CONFIG_MAP, namespace=None, labels={"x": "2"})
        assert [i["metadata"]["name"] for i in everywhere.items if i["metadata"]["namespace"] == namespace] == ["c"]

    async def test_a_listed_object_names_its_kind(self, cluster: Cluster, namespace: str):
        await cluster.apply(config_map("a", namespace, labels={"x": "1"}), manager="m", force=False)
        listing: Any = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels={"x": "1"})
        assert [(item["apiVersion"], item["kind"]) for item in listing.items] == [("v1", "ConfigMap")]

    async def test_a_watch_tells_what_came_after_the_list(self, cluster: Cluster, namespace: str):
        selection: dict[str, Any] = {"namespace": namespace, "labels": {"x": "1"}}
        made: Any = await cluster.apply(config_map("a", namespace, labels={"x": "1"}), manager="m", force=False)
        listing = await cluster.list(seam.CONFIG_MAP, **selection)
        changes = cluster.watch(seam.CONFIG_MAP, **selection, resource_version=listing.resource_version)
        told = asyncio.ensure_future(following(changes, 4))
        await cluster.apply(config_map("b", namespace, labels={"x": "1"}), manager="m", force=False)
        await cluster.apply(config_map("no", namespace, labels={"x": "2"}), manager="m", force=False)
        await cluster.apply(config_map("a", namespace, data={"k": "v"}, labels={"x": "1"}), manager="m", force=False)
        await cluster.apply(config_map("b", namespace, labels={"x": "2"}), manager="m", force=False)
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])
        assert await told == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b"), ("DELETED", "a")]

    async def test_a_forgotten_version_is_expired_and_a_new_list_mends_it(
        self, cluster: Cluster, namespace: str, forgotten: Forget
    ):
        old = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels={})
        await forgotten(old.resource_version)
        with pytest.raises(Expired):
            await following(
                cluster.watch(seam.CONFIG_MAP, namespace=namespace, labels={}, resource_version=old.resource_version),
                1,
            )
        new = await cluster.list(seam.CONFIG_MAP, namespace=namespace, labels={})
        changes = cluster.watch(seam.CONFIG_MAP, namespace=namespace, labels={}, resource_version=new.resource_version)
        await cluster.apply(config_map("z", namespace), manager="m", force=False)
        assert await following(changes, 1) == [("ADDED", "z")]

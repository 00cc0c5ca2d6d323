"""Names that somebody else has, and objects that have lost their owner or their labels."""

from copy import deepcopy

import pytest
from kvpool_api import labels
from kvpool_operator.act import Actor
from kvpool_operator.build.access import admin_secret
from kvpool_operator.build.children import children
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.history import Selection
from kvpool_operator.cluster.local.manifests import ref_of
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.loop import Deps, reconcile
from kvpool_operator.manifests import label, name_of, uid_of
from kvpool_operator.observe import pool_of
from kvpool_operator.ownership import controller, is_controlled_by, is_orphan_of, is_strangers
from kvpool_operator.plan.actions import ApplyChild, CreateEngine, because
from pool_world import SETTINGS, T0, pool, router_state, worker_state
from store_cluster import Routers, StoreCluster

WHY = because("Because", "of a test")
NEEDED = [admin_secret(pool(), "theirs"), *children(pool(), SETTINGS)]


def deps(cluster):
    routers = Routers(lambda: router_state([worker_state(name_of(pod)) for pod in cluster.pods()]))
    return Deps(cluster, routers, SETTINGS, clock=lambda: cluster.now, fresh_token=lambda: "token")


def condition(cluster, kind):
    return next(each for each in cluster.pool()["status"]["conditions"] if each["type"] == kind)


def strangers(wanted, **metadata):
    """The same object, of somebody else."""
    made = deepcopy(wanted)
    made["metadata"] = {"name": name_of(wanted), "namespace": "default", **metadata}
    return made


def owner(kind, name, uid, version="apps/v1"):
    return [{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}]


def test_an_object_is_the_pools_by_its_controller_or_where_it_has_none_by_its_label():
    ours, uid = NEEDED[0], "pool-uid"
    assert is_controlled_by(ours, uid)
    assert not is_strangers(ours, pool())
    orphan = strangers(ours, labels={labels.POOL: "qwen"})
    assert is_orphan_of(orphan, pool().metadata)
    assert not is_strangers(orphan, pool())
    assert is_strangers(strangers(ours), pool())
    assert is_strangers(strangers(ours, labels={labels.POOL: "another"}), pool())
    theirs = owner("Deployment", "qwen", "u")
    assert is_strangers(strangers(ours, labels={labels.POOL: "qwen"}, ownerReferences=theirs), pool())
    mere_owner = [{**theirs[0], "controller": False, "uid": uid}]
    assert is_strangers(strangers(ours, ownerReferences=mere_owner), pool())


def test_what_a_deleted_pool_of_the_name_left_is_the_new_ones_and_what_another_pool_owns_is_not():
    def of(name, version="kvpool.dev/v1alpha1"):
        return strangers(NEEDED[0], ownerReferences=owner("InferencePool", name, "old-uid", version))

    assert not is_strangers(of("qwen"), pool())
    assert is_strangers(of("qwen-2"), pool())
    assert is_strangers(of("qwen", "inference.networking.k8s.io/v1"), pool())


@pytest.mark.parametrize("wanted", NEEDED, ids=lambda wanted: wanted["kind"])
async def test_a_pool_does_not_begin_while_somebody_else_has_one_of_its_names(wanted):
    cluster = StoreCluster()
    before = cluster.store.apply(strangers(wanted), manager="somebody", force=True)
    ref = await cluster.user_applies(replicas=2)
    cluster.writes.clear()
    assert await reconcile(deps(cluster), ref) == T0 + SETTINGS.refused_retry_s
    assert cluster.store.get(ref_of(before)) == before
    assert {kind for kind, *_ in cluster.writes} <= {"InferencePool", "Event"}
    for kind in ("Accepted", "Ready", "Progressing"):
        assert (condition(cluster, kind)["status"], condition(cluster, kind)["reason"]) == ("False", "NameTaken")
    told = condition(cluster, "Accepted")["message"]
    assert f"{wanted['kind']} {name_of(wanted)}" in told
    assert "give the pool another name, or delete" in told


async def test_a_name_that_becomes_free_is_taken_at_the_next_look():
    cluster = StoreCluster()
    made = cluster.store.apply(strangers(NEEDED[0]), manager="somebody", force=True)
    ref = await cluster.user_applies()
    await reconcile(deps(cluster), ref)
    cluster.store.delete(ref_of(made), uid=uid_of(made))
    await reconcile(deps(cluster), ref)
    assert is_controlled_by(cluster.store.get(ref_of(made)), uid_of(cluster.pool()))
    assert condition(cluster, "Accepted")["status"] == "True"


async def test_of_several_names_that_are_taken_the_owners_are_named():
    cluster = StoreCluster()
    for wanted in NEEDED:
        theirs = owner("InferencePool", "other", "u", "kvpool.dev/v1alpha1")
        cluster.store.apply(strangers(wanted, ownerReferences=theirs), manager="somebody", force=True)
    await reconcile(deps(cluster), await cluster.user_applies())
    told = condition(cluster, "Accepted")["message"]
    assert "Secret qwen-admin (of InferencePool other)" in told
    assert f" and {len(NEEDED) - 3} more" in told


@pytest.mark.parametrize("needed", NEEDED, ids=lambda needed: needed["kind"])
async def test_a_pool_that_serves_goes_on_when_somebody_takes_one_of_its_names(needed):
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=2)
    await reconcile(deps(cluster), ref)
    cluster.store.delete(ref_of(needed), uid=uid_of(cluster.store.get(ref_of(needed))))
    theirs = cluster.store.apply(strangers(needed), manager="somebody", force=True)
    lost = cluster.pods()[0]
    cluster.store.delete(Ref(seam.POD, "default", name_of(lost)), uid=uid_of(lost), grace_s=0)
    await reconcile(deps(cluster), ref)
    assert len(cluster.pods()) == 2
    assert cluster.store.get(ref_of(needed)) == theirs
    assert condition(cluster, "Accepted")["reason"] == "NameTaken"


async def test_a_strangers_secret_gives_no_token_away():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    cluster.router_runs()
    cluster.store.apply(strangers(NEEDED[0]), manager="somebody", force=True)
    routers = Routers(router_state([]))
    await reconcile(Deps(cluster, routers, SETTINGS, clock=lambda: T0, fresh_token=lambda: "token"), ref)
    assert routers.asked == []


async def test_what_was_made_between_the_look_and_the_deed_is_left_alone_and_no_deed():
    cluster = StoreCluster()
    actor = Actor(cluster, "default", lambda: T0)
    wanted = NEEDED[1]
    before = cluster.store.apply(strangers(wanted), manager="somebody", force=True)
    for uid in ("", "another-uid"):
        (done,) = await actor.perform([ApplyChild(wanted, WHY, uid)])
        assert (done.refused, done.overtaken) == (None, True)
    assert cluster.store.get(ref_of(wanted)) == before


async def test_orphans_of_a_pool_belong_to_the_next_one_of_its_name_with_their_engines_and_token():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    cluster.store.delete(ref, uid=uid_of(cluster.pool()))
    owned = [item for kind in seam.KINDS.values() for item in found(cluster, kind) if controller(item)]
    for item in owned:  # what `kubectl delete --cascade=orphan` has the garbage collector do
        cluster.store.apply({**item, "metadata": _bare(item)}, manager="kvpool-operator", force=True)
    assert not any(controller(item) for kind in seam.KINDS.values() for item in found(cluster, kind))
    await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    uid = uid_of(cluster.pool())
    after = [item for kind in seam.KINDS.values() for item in found(cluster, kind) if controller(item)]
    assert {uid_of(item) for item in after} == {uid_of(item) for item in owned}
    assert all(is_controlled_by(item, uid) for item in after)
    assert any("took over engine" in event["message"] for event in cluster.events())


def found(cluster, kind):
    return cluster.store.list(Selection(kind, "default", {})).items


def _bare(item):
    kept = ("name", "namespace", "uid", "labels", "annotations")
    return {key: item["metadata"][key] for key in kept if key in item["metadata"]}


@pytest.mark.parametrize("lost", [labels.POOL, labels.ROLE, labels.SLOT])
async def test_our_engine_without_its_label_is_found_again_by_its_name_and_told_once(lost):
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    (pod,) = cluster.pods()
    bare = engine_pod(pool_of(cluster.pool()), 0, SETTINGS.builder_revision)
    del bare["metadata"]["labels"][lost]
    cluster.store.apply(bare, manager="kvpool-operator", force=True)
    events = len(cluster.events())
    (done,) = await Actor(cluster, "default", lambda: T0).perform(
        [CreateEngine(name_of(pod), engine_pod(pool_of(cluster.pool()), 0, SETTINGS.builder_revision), WHY)]
    )
    assert (type(done.action).__name__, done.refused, done.overtaken) == ("AdoptEngine", None, False)
    assert lost in done.action.reason.message
    (again,) = cluster.pods()
    assert (uid_of(again), label(again, lost)) == (uid_of(pod), label(pod, lost))
    assert again["spec"] == pod["spec"]
    assert len(cluster.events()) == events


async def test_a_label_that_somebody_takes_away_each_time_is_given_back_no_faster_than_refusals_are_tried():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    bare = engine_pod(pool_of(cluster.pool()), 0, SETTINGS.builder_revision)
    del bare["metadata"]["labels"][labels.POOL]
    cluster.store.apply(bare, manager="kvpool-operator", force=True)
    assert await reconcile(deps(cluster), ref) == T0 + SETTINGS.refused_retry_s
    assert len(cluster.pods()) == 1
    (told,) = [event for event in cluster.events() if event["reason"] == "Adopted"]
    assert f"its labels {labels.POOL} were gone" in told["message"]


async def test_an_engine_that_is_still_ending_is_no_news():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    (pod,) = cluster.pods()
    cluster.store.delete(Ref(seam.POD, "default", name_of(pod)), uid=uid_of(pod))
    wanted = engine_pod(pool_of(cluster.pool()), 0, SETTINGS.builder_revision)
    (done,) = await Actor(cluster, "default", lambda: T0).perform([CreateEngine(name_of(pod), wanted, WHY)])
    assert (done.refused, done.overtaken) == (None, True)

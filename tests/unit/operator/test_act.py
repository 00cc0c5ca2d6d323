"""Actions meet a cluster that does them, refuses them, or has gone further meanwhile."""

import asyncio
import logging

import pytest
from kvpool_api import labels
from kvpool_operator.act import Actor
from kvpool_operator.build.access import service_account
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.cluster.local.manifests import ref_of
from kvpool_operator.cluster.seam import AlreadyExists, Forbidden, NamespaceEnding, Refused, Unavailable
from kvpool_operator.manifests import annotation, condition, name_of, rfc3339, uid_of
from kvpool_operator.plan.actions import (
    ApplyChild,
    ClearDraining,
    CreateEngine,
    DeleteEngine,
    MarkDraining,
    SetRoutable,
    because,
)
from pool_world import T0, pool
from store_cluster import StoreCluster

WHY = because("Because", "of a test")


def create(slot=0):
    manifest = engine_pod(pool(), slot, "1")
    return CreateEngine(name_of(manifest), manifest, WHY)


@pytest.fixture
def cluster():
    return StoreCluster()


@pytest.fixture
def actor(cluster):
    return Actor(cluster, "default", lambda: cluster.now)


async def made(cluster, actor):
    await actor.perform([create()])
    (pod,) = cluster.pods()
    return name_of(pod), uid_of(pod)


async def test_an_engine_is_made_once_however_often_it_is_asked_for(cluster, actor):
    for _ in range(2):
        (done,) = await actor.perform([create()])
        assert done.refused is None
    assert len(cluster.pods()) == 1


async def test_a_strangers_pod_under_an_engines_name_is_left_alone_and_told(cluster, actor):
    wanted = create()
    stranger = {**wanted.manifest, "metadata": {"name": wanted.name, "namespace": "default"}}
    before = cluster.store.apply(stranger, manager="somebody", force=True)
    (done,) = await actor.perform([wanted])
    assert done.refused is not None
    assert "already exists, and it is not this pool's: delete it" in done.refused
    assert cluster.store.get(ref_of(stranger)) == before


async def test_a_pod_of_that_name_that_went_meanwhile_is_no_refusal(cluster, actor):
    cluster.refusing = lambda target: AlreadyExists("pods already exists") if isinstance(target, dict) else None
    (done,) = await actor.perform([create()])
    assert done.refused is None


async def test_a_drain_is_marked_with_its_time_and_cleared_without_a_trace(cluster, actor):
    who = await made(cluster, actor)
    before = cluster.pods()[0]["metadata"]["annotations"]
    await actor.perform([MarkDraining(*who, WHY)])
    assert annotation(cluster.pods()[0], labels.DRAINING) == rfc3339(T0)
    await actor.perform([ClearDraining(*who, WHY)])
    assert cluster.pods()[0]["metadata"]["annotations"] == before


async def test_the_gate_is_passed_beside_what_the_kubelet_writes(cluster, actor):
    who = await made(cluster, actor)
    cluster.kubelet_reports(cluster.pods()[0], ContainersReady="True")
    await actor.perform([SetRoutable(*who, WHY)])
    cluster.kubelet_reports(cluster.pods()[0], ContainersReady="False")
    gate = condition(cluster.pods()[0], labels.ROUTABLE_GATE)
    assert (gate["status"], gate["reason"], gate["message"]) == ("True", WHY.code, WHY.message)


async def test_each_concern_has_a_field_manager_of_its_own(cluster, actor):
    who = await made(cluster, actor)
    await actor.perform([MarkDraining(*who, WHY), SetRoutable(*who, WHY)])
    managers = {(each["manager"], each.get("subresource")) for each in cluster.pods()[0]["metadata"]["managedFields"]}
    drain, gate = ("kvpool-operator-drain", None), ("kvpool-operator-gate", "status")
    assert managers == {("kvpool-operator", None), drain, gate}


async def test_an_engine_is_deleted_with_its_own_grace_period(cluster, actor):
    who = await made(cluster, actor)
    await actor.perform([DeleteEngine(*who, WHY)])
    assert cluster.pods()[0]["metadata"]["deletionGracePeriodSeconds"] == 45


@pytest.mark.parametrize("kind", [MarkDraining, ClearDraining, SetRoutable, DeleteEngine])
async def test_a_pod_that_was_gone_or_replaced_meanwhile_is_no_refusal(cluster, actor, kind):
    name, _ = await made(cluster, actor)
    before = cluster.pods()
    for who in ((name, "another-uid"), ("gone", "uid")):
        (done,) = await actor.perform([kind(*who, WHY)])
        assert done.refused is None
    assert cluster.pods() == before


async def test_what_is_refused_is_told_in_the_clusters_words_and_stops_nothing_else(cluster, actor):
    cluster.refusing = lambda target: Refused("no room") if target.get("kind") == "ServiceAccount" else None
    child = ApplyChild(service_account(pool()), WHY)
    done = await actor.perform([create(0), child, create(1)])
    assert [each.refused for each in done] == ["no room", None, None]
    assert done[0].action is child
    assert len(cluster.pods()) == 2


async def test_a_cluster_that_cannot_answer_refuses_nothing(cluster, actor):
    second = create(1)
    cluster.refusing = lambda target: Unavailable("down") if name_of(target) == second.name else None
    with pytest.raises(Unavailable):
        await actor.perform([create(0), second, create(2)])
    assert len(cluster.pods()) == 2
    cluster.refusing = lambda target: Unavailable("down")
    with pytest.raises(Unavailable):
        await actor.perform([ApplyChild(service_account(pool()), WHY), create(3)])
    assert len(cluster.pods()) == 2


async def test_in_a_namespace_that_is_ending_nothing_is_a_fault_of_the_pool(cluster, actor):
    cluster.refusing = lambda target: NamespaceEnding("because it is being terminated")
    with pytest.raises(NamespaceEnding):
        await actor.perform([create(0)])


async def test_nothing_is_still_under_way_when_the_end_is_told(cluster, actor):
    second, do_create = create(1), cluster.create

    async def slow_for_others(manifest, **how):
        if name_of(manifest) != second.name:
            for _ in range(20):
                await asyncio.sleep(0)
        return await do_create(manifest, **how)

    cluster.create = slow_for_others
    cluster.refusing = lambda target: Unavailable("down") if name_of(target) == second.name else None
    with pytest.raises(Unavailable):
        await actor.perform([create(0), second, create(2)])
    assert len(cluster.pods()) == 2


def at_most(cluster, room):
    """A quota of so many Pods."""
    left = iter(range(room))

    def refusing(target):
        is_full = isinstance(target, dict) and target["kind"] == "Pod" and next(left, None) is None
        return Refused("exceeded quota: few") if is_full else None

    cluster.refusing = refusing


@pytest.mark.parametrize(("room", "tried"), [(0, 1), (1, 3), (2, 3), (3, 7), (7, 15)])
async def test_a_quota_is_met_by_as_many_as_were_just_made_and_by_no_more(cluster, actor, room, tried):
    tries, do_create = [], cluster.create

    async def counted(manifest, **how):
        tries.append(name_of(manifest))
        return await do_create(manifest, **how)

    cluster.create = counted
    at_most(cluster, room)
    wanted = [create(slot) for slot in range(200)]
    done = await actor.perform(wanted)
    assert tries == [each.name for each in wanted[:tried]]
    assert [each.refused for each in done] == [None] * room + ["exceeded quota: few"] * (tried - room)
    assert [each.goes_for_all for each in done] == [each.refused is not None for each in done]


async def test_engines_are_made_in_ever_larger_batches_but_never_all_at_once(cluster, actor):
    under_way, most, do_create = 0, [], cluster.create

    async def counted(manifest, **how):
        nonlocal under_way
        under_way += 1
        most.append(under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await do_create(manifest, **how)

    cluster.create = counted
    await actor.perform([create(slot) for slot in range(300)])
    assert len(cluster.pods()) == 300
    assert max(most) == 64
    assert most[:7] == [1, 1, 2, 1, 2, 3, 4]


async def test_what_one_name_alone_meets_keeps_no_other_engine_waiting(cluster, actor):
    taken = create(0)
    stranger = {**taken.manifest, "metadata": {"name": taken.name, "namespace": "default"}}
    cluster.store.apply(stranger, manager="somebody", force=True)
    done = await actor.perform([create(slot) for slot in range(4)])
    assert [each.refused is None for each in done] == [False, True, True, True]
    assert not any(each.goes_for_all for each in done)


async def test_a_missing_right_is_met_once(cluster, actor):
    cluster.refusing = lambda target: Forbidden("may not create pods")
    (done,) = await actor.perform([create(slot) for slot in range(4)])
    assert done.goes_for_all


async def test_many_engines_are_one_line_of_the_log_and_so_is_their_refusal(cluster, actor, caplog):
    caplog.set_level(logging.INFO)
    at_most(cluster, 30)
    await actor.perform([create(slot) for slot in range(200)])
    made, refused = caplog.messages
    assert made.startswith("CreateEngine qwen-")
    assert made.endswith("-2 and 27 more: of a test")
    assert refused.endswith("-30 was refused: exceeded quota: few; 169 more are not tried now")

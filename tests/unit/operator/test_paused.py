"""A paused pool: nothing of it is made, changed or deleted, and what is so is told."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_api.conditions import ConditionType
from kvpool_api.pool import InferencePool
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Ref
from kvpool_operator.loop import Deps, reconcile
from kvpool_operator.manifests import annotation, is_terminating, is_true, name_of, uid_of
from kvpool_operator.observe import engine_of
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import ClearDraining, CreateEngine, DeleteEngine, MarkDraining, SetRoutable
from kvpool_operator.plan.plan import POLL_S
from kvpool_operator.settings import Settings
from kvpool_operator.status import status_of
from pool_world import SETTINGS, T0, World, pod_manifest, pool, router_state, serving, worker_state
from store_cluster import Routers, StoreCluster

QUICK = Settings(settle_s=0.01)
CHANGED = {"engine": {"blockSize": 32}}
DRAIN = {"timeoutSeconds": 20}


def engine(slot=0, asked=None, **facts):
    manifest = engine_pod(asked or pool(), slot, SETTINGS.builder_revision)
    return replace(engine_of(pod_manifest(manifest, f"u{slot}")), **facts)


def world(replicas, *engines, paused=True, has_children=True, **spec):
    made = World(pool(replicas, paused=paused, **spec), has_children=has_children)
    made.engines = list(engines)
    return made


def planned(made, now=T0):
    return plan(made.observed(), SETTINGS, now, "fresh")


def unpaused(made):
    """The same world a moment later."""
    spec = made.pool.spec.model_copy(update={"paused": False})
    made.pool = made.pool.model_copy(update={"spec": spec})
    return made


TEMPTATIONS = {
    "nothing is there yet": (lambda: world(2, has_children=False), CreateEngine),
    "more are wanted": (lambda: world(3, serving(engine(0))), CreateEngine),
    "fewer are wanted": (lambda: world(1, serving(engine(0)), serving(engine(1))), MarkDraining),
    "the template has changed": (lambda: world(1, serving(engine(0)), **CHANGED), CreateEngine),
    "one has drained": (
        lambda: world(1, serving(engine(0)), replace(serving(engine(1)), draining_since=T0 - 999)),
        DeleteEngine,
    ),
    "a drain is past its time": (
        lambda: world(0, replace(serving(engine(0)), draining_since=T0 - 999), drain=DRAIN),
        DeleteEngine,
    ),
    "demand has come back": (lambda: world(1, replace(serving(engine(0)), draining_since=T0)), ClearDraining),
    "one has broken": (lambda: world(1, engine(0, failed_at=T0)), CreateEngine),
    "one broke long ago": (lambda: world(0, engine(0, failed_at=T0 - 9999)), DeleteEngine),
}


@pytest.mark.parametrize("temptation", TEMPTATIONS)
def test_nothing_is_changed_while_paused_and_all_of_it_afterwards(temptation):
    make, deed = TEMPTATIONS[temptation]
    paused = planned(make())
    assert paused.actions == ()
    assert paused.look_again_at is None, "there is nothing to wait for"
    assert deed in {type(action) for action in planned(unpaused(make())).actions}


def test_an_engine_that_has_come_up_is_admitted_all_the_same():
    ready = engine(0, containers_ready_since=T0)
    found = planned(world(1, ready))
    assert [(type(action), action.name) for action in found.actions] == [(SetRoutable, ready.name)]
    assert found.look_again_at == T0 + POLL_S


@settings(deadline=None)
@given(
    st.integers(0, 4),
    st.lists(st.sampled_from(["starting", "serving", "draining", "failed", "terminating"]), max_size=5),
    st.floats(0, 5000),
)
def test_a_paused_pool_whatever_its_engines_admits_and_does_no_more(replicas, states, later):
    facts = {
        "starting": {"containers_ready_since": T0},
        "serving": {"containers_ready_since": T0, "routable": True},
        "draining": {"containers_ready_since": T0, "routable": True, "draining_since": T0},
        "failed": {"failed_at": T0},
        "terminating": {"terminating": True},
    }
    engines = [engine(slot, **facts[state]) for slot, state in enumerate(states)]
    actions = planned(world(replicas, *engines, **CHANGED), T0 + later).actions
    assert {type(action) for action in actions} <= {SetRoutable}


def told(made, before=None):
    seen = made.observed()
    if before is not None:
        seen = replace(seen, pool=seen.pool.model_copy(update={"status": before}))
    return status_of(seen, (), SETTINGS, "http://qwen", T0)


def conditions(status):
    return {ConditionType(each.type): each for each in status.conditions}


def test_a_paused_pool_that_serves_is_ready_and_why_says_that_it_is_paused():
    found = conditions(told(world(2, serving(engine(0)), serving(engine(1)))))
    assert (found[ConditionType.PAUSED].status, found[ConditionType.PAUSED].reason) == ("True", "Paused")
    assert (found[ConditionType.READY].status, found[ConditionType.READY].reason) == ("True", "Paused")
    assert found[ConditionType.READY].message == (
        "2 of 2 engines are routable; while spec.paused is true nothing is made, changed or deleted; "
        "set it to false to go on"
    )
    assert (found[ConditionType.PROGRESSING].status, found[ConditionType.PROGRESSING].reason) == ("False", "Paused")
    assert found[ConditionType.DEGRADED].status == "False"


def test_a_pool_that_is_not_paused_says_so():
    found = conditions(told(world(1, serving(engine(0)), paused=False)))
    assert (found[ConditionType.PAUSED].status, found[ConditionType.PAUSED].reason) == ("False", "NotPaused")
    assert found[ConditionType.READY].reason == "Ready"


def test_a_pool_paused_from_its_beginning_lacks_everything_for_that_and_is_not_degraded():
    made = world(1, has_children=False)
    found = conditions(status_of(replace(made.observed(), routers=()), (), SETTINGS, None, T0))
    for kind in (ConditionType.READY, ConditionType.WORKLOAD_READY, ConditionType.ROUTER_READY):
        assert (found[kind].status, found[kind].reason) == ("False", "Paused"), kind
    assert found[ConditionType.READY].message.endswith("0 exist, and while spec.paused is true no other is made")
    assert found[ConditionType.DEGRADED].status == "False"


def test_an_engine_lost_while_paused_degrades_the_pool_for_the_cause_that_it_ended_with():
    served = told(world(2, serving(engine(0)), serving(engine(1))))
    lost = conditions(told(world(2, serving(engine(0))), before=served))
    assert (lost[ConditionType.READY].status, lost[ConditionType.READY].reason) == ("False", "Paused")
    assert lost[ConditionType.DEGRADED].status == "True"
    evicted = engine_of(
        pod_manifest(engine_pod(pool(), 1, SETTINGS.builder_revision), "u1", phase="Failed", reason="Evicted")
    )
    assert conditions(told(world(2, serving(engine(0)), evicted), before=served))[ConditionType.READY].reason == (
        "Evicted"
    )


def test_drains_that_stand_still_are_told():
    leaving = replace(serving(engine(1)), draining_since=T0)
    found = conditions(told(world(1, serving(engine(0)), leaving)))[ConditionType.PROGRESSING]
    assert (found.status, found.message.rpartition("; ")[2]) == ("False", f"draining: {leaving.name}")


async def rounds(cluster, ref, count=2):
    deps = Deps(cluster, heard(cluster), QUICK, clock=lambda: cluster.now, fresh_token=lambda: "token")
    for _ in range(count):
        await reconcile(deps, ref)


def heard(cluster):
    return Routers(lambda: router_state([worker_state(name_of(pod)) for pod in cluster.pods()]))


async def test_pausing_and_going_on_are_an_event_each_and_all_else_of_a_pool_stays_as_it_is():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=2)
    await rounds(cluster, ref)
    cluster.router_runs()
    await cluster.user_applies(replicas=1, paused=True, engine={"blockSize": 32})
    for pod in cluster.pods():
        cluster.kubelet_reports(pod, ContainersReady="True", Ready="True")
    service = Ref(seam.SERVICE, "default", "qwen")
    cluster.store.remove(service, uid=uid_of(cluster.store.get(service)))
    cluster.writes.clear()
    await rounds(cluster, ref, 4)
    assert all(is_true(pod, "kvpool.dev/routable") for pod in cluster.pods()), "they came up, so they may serve"
    kept = {kind for kind, _, subresource in cluster.writes if subresource is None}
    assert kept == {"Event"}
    assert any(event["message"].startswith("Paused is True") for event in cluster.events())
    await cluster.user_applies(replicas=1, engine={"blockSize": 32})
    await rounds(cluster, ref)
    assert any(event["reason"] == "NotPaused" for event in cluster.events())
    assert name_of(cluster.store.get(service)) == "qwen"
    assert any(annotation(pod, "kvpool.dev/draining") for pod in cluster.pods())
    assert not any(map(is_terminating, cluster.pods()))


def test_pausing_replaces_no_engine():
    paused = InferencePool.model_validate(pool(1, paused=True).model_dump(by_alias=True))
    assert engine_pod(paused, 0, "1") == engine_pod(pool(1), 0, "1")

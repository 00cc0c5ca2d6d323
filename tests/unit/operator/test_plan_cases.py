"""`plan` case by case: what happens, and what it says of it."""

from dataclasses import replace

from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.observe import engine_of
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import (
    ApplyChild,
    ClearDraining,
    CreateEngine,
    DeleteEngine,
    MarkDraining,
    SetRoutable,
)
from kvpool_operator.plan.broken import KEPT, KEPT_S
from kvpool_operator.plan.children import drift
from kvpool_operator.plan.plan import POLL_S
from pool_world import SETTINGS, T0, World, pod_manifest, pool, router, serving, silent_router, worker_state

NAME = "qwen"


def engine(slot: int = 0, made_for=None, **facts):
    manifest = engine_pod(made_for or pool(), slot, SETTINGS.builder_revision)
    return replace(engine_of(pod_manifest(manifest, f"u{slot}")), **facts)


def engines_of(world: World, *engines) -> World:
    world.engines = list(engines)
    return world


def actions(seen, now=T0, kind=None):
    found = plan(seen, SETTINGS, now, "fresh").actions
    return [action for action in found if kind is None or isinstance(action, kind)]


def test_a_new_pool_gets_its_secret_its_children_and_its_engines():
    found = actions(World(pool(2), has_children=False).observed())
    kinds = [action.manifest["kind"] for action in found if isinstance(action, ApplyChild)]
    assert kinds[0] == "Secret"
    assert kinds[-1] == "Deployment"
    created = [action for action in found if isinstance(action, CreateEngine)]
    assert [action.name.rpartition("-")[2] for action in created] == ["0", "1"]
    assert created[0].reason.message == "0 of 2 exist"


def test_a_pool_that_is_being_deleted_is_left_to_the_collector():
    gone = pool(2)
    gone = gone.model_copy(update={"metadata": gone.metadata.model_copy(update={"deletion_timestamp": "now"})})
    assert plan(World(gone, has_children=False).observed(), SETTINGS, T0, "t").actions == ()


def test_what_somebody_changed_by_hand_is_mended_and_named():
    seen = World(pool(0)).observed()
    service = dict(seen.children["Service", NAME])
    service["spec"] = {**service["spec"], "ports": [{**service["spec"]["ports"][0], "port": 81}]}
    found = actions(replace(seen, children={**seen.children, ("Service", NAME): service}))
    assert [action.reason.message for action in found] == ["Service qwen differed in spec.ports[0].port"]


def test_what_others_add_is_none_of_our_business():
    assert list(drift({"a": 1, "b": {}}, {"a": 1, "c": 2})) == []
    assert list(drift({"a": [1, 2]}, {"a": [1]})) == ["a"]


def test_many_differences_are_counted():
    seen = World(pool(0)).observed()
    broken = {"kind": "Role", "metadata": {"name": "qwen-router"}}
    found = actions(replace(seen, children={**seen.children, ("Role", "qwen-router"): broken}))
    assert " and " in found[0].reason.message
    assert found[0].reason.message.endswith(" more")


def test_demand_that_returns_takes_a_draining_engine_back():
    world = engines_of(World(pool(2)), serving(engine(0)), replace(serving(engine(1)), draining_since=T0))
    world.in_flight = {world.engines[1].name: 3}
    assert [type(action) for action in actions(world.observed())] == [ClearDraining]


def test_an_engine_that_is_outdated_is_not_taken_back():
    before = pool(engine={"blockSize": 32})
    leaving = replace(serving(engine(1, before)), draining_since=T0)
    world = engines_of(World(pool(2)), serving(engine(0)), leaving)
    world.in_flight = {leaving.name: 3}
    assert actions(world.observed(), kind=ClearDraining) == []
    assert len(actions(world.observed(), kind=CreateEngine)) == 1


def test_a_drain_waits_for_every_router_to_say_that_it_sends_nothing_new():
    leaving = replace(serving(engine(0)), draining_since=T0)
    world = engines_of(World(pool(0)), leaving)
    let_go = router([worker_state(leaving.name, draining=True)])
    unaware = router([worker_state(leaving.name, draining=False)], name="other")
    for routers in ((let_go, unaware), (let_go, silent_router("other"))):
        assert actions(replace(world.observed(), routers=routers), kind=DeleteEngine) == []
    assert len(actions(replace(world.observed(), routers=(let_go, let_go)), kind=DeleteEngine)) == 1
    assert len(actions(replace(world.observed(), routers=()), kind=DeleteEngine)) == 1


def test_a_drain_ends_at_its_deadline_and_the_plan_says_when_to_look():
    leaving = replace(serving(engine(0)), draining_since=T0)
    seen = replace(engines_of(World(pool(0)), leaving).observed(), routers=(silent_router(),))
    assert plan(seen, SETTINGS, T0, "t").look_again_at == T0 + POLL_S
    assert plan(seen, SETTINGS, T0 + 299.9, "t").look_again_at == T0 + 300
    ended = actions(seen, T0 + 300, DeleteEngine)
    assert [action.reason.code for action in ended] == ["DrainTimeout"]


def test_an_engine_that_never_served_needs_no_goodbye():
    starting = engine(0)
    world = engines_of(World(pool(0)), starting)
    assert [type(action) for action in actions(world.observed())] == [MarkDraining]
    world.apply(tuple(actions(world.observed())))
    seen = replace(world.observed(), routers=(silent_router(),))
    assert [action.reason.message for action in actions(seen, kind=DeleteEngine)] == ["it never served anybody"]


def test_an_engine_is_admitted_once_every_router_knows_its_cache():
    ready = engine(0, containers_ready_since=T0)
    world = engines_of(World(pool(1)), ready)
    knows = router([worker_state(ready.name, synced=True)])
    learns = router([worker_state(ready.name, synced=False)], name="other")
    ignorant = router([], name="third")
    for routers in ((knows, learns), (knows, ignorant), (silent_router(),), ()):
        assert actions(replace(world.observed(), routers=routers), kind=SetRoutable) == []
    admitted = actions(replace(world.observed(), routers=(knows, silent_router("other"))), kind=SetRoutable)
    assert [action.reason.code for action in admitted] == ["Synced"]


def test_an_engine_whose_events_never_come_is_admitted_when_its_time_is_up():
    ready = engine(0, containers_ready_since=T0)
    seen = replace(engines_of(World(pool(1)), ready).observed(), routers=())
    box = 10 + SETTINGS.routable_grace_s
    assert actions(seen, T0 + box - 1, SetRoutable) == []
    assert [action.reason.code for action in actions(seen, T0 + box, SetRoutable)] == ["SyncTimeout"]


def test_engines_that_keep_failing_are_replaced_ever_later():
    failed = [engine(slot, failed_at=T0 - 1 + slot / 10) for slot in range(3)]
    world = engines_of(World(pool(1)), *failed)
    assert actions(world.observed(), T0, CreateEngine) == []
    assert plan(world.observed(), SETTINGS, T0, "t").look_again_at > T0
    assert len(actions(world.observed(), T0 + 30, CreateEngine)) == 1


def test_only_a_few_broken_engines_are_kept_and_not_for_ever():
    failed = [engine(slot, failed_at=T0 + slot) for slot in range(KEPT + 1)]
    world = engines_of(World(pool(0)), *failed)
    assert [action.name for action in actions(world.observed(), T0 + 10)] == [failed[0].name]
    assert len(actions(world.observed(), T0 + KEPT_S + 10)) == KEPT + 1


def test_a_rollout_says_which_fields_changed():
    world = engines_of(World(pool(1, engine={"image": "vllm/vllm-openai:v0.33.0"})), serving(engine(0)))
    found = actions(world.observed(), kind=CreateEngine)
    assert found[0].reason.message == 'spec.engine.image: "vllm/vllm-openai:v0.32.0" -> "vllm/vllm-openai:v0.33.0"'


def test_an_upgraded_operator_replaces_nothing_unless_told_to():
    older = replace(serving(engine(0)), builder_revision="0")
    assert actions(engines_of(World(pool(1)), older).observed()) == []
    told = pool(1, rollout={"onOperatorUpgrade": "Roll"})
    found = actions(engines_of(World(told), older).observed(), kind=CreateEngine)
    assert [action.reason.code for action in found] == ["OperatorUpgraded"]


def test_an_engine_made_by_other_means_is_outdated():
    foreign = replace(serving(engine(0)), applied_template="no json")
    assert actions(engines_of(World(pool(1)), foreign).observed(), kind=CreateEngine) != []


def test_a_slot_is_not_used_again_while_its_pod_is_on_its_way_out():
    world = engines_of(World(pool(1)), engine(0, terminating=True))
    assert [action.name.rpartition("-")[2] for action in actions(world.observed(), kind=CreateEngine)] == ["1"]


def test_the_engine_with_the_least_in_flight_and_cached_leaves_first():
    world = engines_of(World(pool(2)), *(serving(engine(slot)) for slot in range(3)))
    names = [each.name for each in world.engines]
    states = [worker_state(names[0], in_flight=2), worker_state(names[1], blocks=9), worker_state(names[2], blocks=3)]
    found = actions(replace(world.observed(), routers=(router(states),)))
    assert [(type(action), action.name) for action in found] == [(MarkDraining, names[2])]

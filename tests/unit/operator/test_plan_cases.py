"""`plan` case by case: what happens, and what it says of it."""

import json
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
from kvpool_operator.plan.broken import KEPT, KEPT_S, unreplaced
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
    assert [action.reason.message for action in found] == ["Service qwen differed in spec.ports[http].port"]


def test_what_others_add_is_none_of_our_business():
    assert list(drift({"a": 1, "b": {}}, {"a": 1, "c": 2})) == []
    ours = {"containers": [{"name": "router", "image": "r"}]}
    theirs = {"containers": [{"name": "sidecar", "image": "s"}, {"name": "router", "image": "r", "tty": True}]}
    assert list(drift(ours, theirs)) == []
    assert list(drift(ours, {"containers": [{"name": "sidecar"}]})) == ["containers[router]"]


def test_what_the_api_server_writes_otherwise_is_no_difference():
    asked = {
        "resources": {"limits": {"memory": "1024Mi", "cpu": "0.5", "nvidia.com/gpu": 1}},
        "hostNetwork": False,
        "value": "",
    }
    kept = {"resources": {"limits": {"memory": "1Gi", "cpu": "500m", "nvidia.com/gpu": "1"}}}
    assert list(drift(asked, kept)) == []
    assert list(drift(asked, {"resources": {"limits": {"memory": "1Gi", "cpu": "501m"}}})) == [
        "resources.limits.cpu",
        "resources.limits.nvidia.com/gpu",
    ]
    assert list(drift({"enableServiceLinks": False}, {})) == ["enableServiceLinks"], "unset would be true"


def test_what_a_pool_no_longer_asks_of_its_routers_is_taken_away():
    template = {"spec": {"nodeSelector": {"pool": "cpu"}, "imagePullSecrets": [{"name": "registry"}]}}
    before = World(pool(0, router={"podTemplate": template})).observed()
    (mended,) = actions(replace(World(pool(0)).observed(), children=before.children))
    assert mended.manifest["kind"] == "Deployment"
    assert "nodeSelector" not in mended.manifest["spec"]["template"]["spec"]


def test_a_list_that_is_ours_as_a_whole_may_not_grow_or_shrink():
    assert list(drift({"a": [1, 2]}, {"a": [1]})) == ["a"]
    subjects = {"subjects": [{"kind": "ServiceAccount", "name": "ours"}]}
    assert list(drift(subjects, {"subjects": [*subjects["subjects"], {"kind": "User", "name": "eve"}]})) == ["subjects"]
    assert list(drift({"rules": [{"verbs": ["get"]}]}, {"rules": [{"verbs": ["*"]}]})) == ["rules[0].verbs[0]"]


def test_many_differences_are_counted():
    seen = World(pool(0)).observed()
    broken = {"kind": "Role", "metadata": {"name": "qwen-router", "labels": {"kvpool.dev/pool": "qwen"}}}
    found = actions(replace(seen, children={**seen.children, ("Role", "qwen-router"): broken}))
    assert " and " in found[0].reason.message
    assert found[0].reason.message.endswith(" more")


def test_demand_that_returns_takes_a_draining_engine_back():
    world = engines_of(World(pool(2)), serving(engine(0)), replace(serving(engine(1)), draining_since=T0))
    world.in_flight = {world.engines[1].name: 3}
    assert [type(action) for action in actions(world.observed())] == [ClearDraining]
    assert [type(action) for action in actions(world.observed(), T0 + 300)] == [ClearDraining]


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
    stopped = silent_router("crashed", running=False)
    assert len(actions(replace(world.observed(), routers=(let_go, stopped)), kind=DeleteEngine)) == 1
    assert len(actions(replace(world.observed(), routers=(let_go, let_go)), kind=DeleteEngine)) == 1
    assert len(actions(replace(world.observed(), routers=()), kind=DeleteEngine)) == 1


def test_a_drain_ends_at_its_deadline_and_the_plan_says_when_to_look():
    leaving = replace(serving(engine(0)), draining_since=T0)
    seen = replace(engines_of(World(pool(0)), leaving).observed(), routers=(silent_router(),))
    assert plan(seen, SETTINGS, T0, "t").look_again_at == T0 + POLL_S
    assert plan(seen, SETTINGS, T0 + 299.9, "t").look_again_at == T0 + 300
    ended = actions(seen, T0 + 300, DeleteEngine)
    assert [action.reason.code for action in ended] == ["DrainTimeout"]


def test_a_drain_that_runs_out_of_time_says_what_held_it_up():
    leaving = replace(serving(engine(0)), draining_since=T0 - 300)
    seen = engines_of(World(pool(0)), leaving).observed()
    busy = router([worker_state(leaving.name, draining=True, in_flight=2)])
    unaware = router([worker_state(leaving.name, draining=False)])
    for routers, words in (
        ((busy, silent_router("mute")), "2 requests were still in flight after 300 s"),
        ((silent_router("mute"),), "router mute had not answered after 300 s"),
        ((unaware,), "a router had not let go of it after 300 s"),
    ):
        (ended,) = actions(replace(seen, routers=routers), kind=DeleteEngine)
        assert ended.reason.message == words


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


def chained(length, lived=2.0, apart=10.0):
    """Engines of which each was made after the one before had broken; the last one breaks at T0."""
    ends = [T0 - apart * (length - 1 - place) for place in range(length)]
    return [engine(slot, created_at=end - lived, failed_at=end) for slot, end in enumerate(ends)]


def test_an_engine_that_breaks_is_replaced_at_once_and_so_are_many_that_break_together():
    for count in (1, 5):
        together = [engine(slot, created_at=T0 - 100, failed_at=T0) for slot in range(count)]
        world = engines_of(World(pool(count)), *together)
        assert len(actions(world.observed(), T0, CreateEngine)) == count


def test_replacements_that_break_are_replaced_ever_later():
    for length, delay in ((2, 5), (3, 10), (5, 40), (9, 300)):
        world = engines_of(World(pool(1)), *chained(length))
        assert actions(world.observed(), T0 + delay - 0.1, CreateEngine) == []
        assert plan(world.observed(), SETTINGS, T0, "t").look_again_at == T0 + delay
        assert len(actions(world.observed(), T0 + delay, CreateEngine)) == 1


def test_nothing_is_held_back_once_all_that_broke_is_replaced():
    world = engines_of(World(pool(1)), *chained(3), serving(engine(7, created_at=T0 + 20)))
    assert actions(world.observed(), T0 + 20) == []
    assert plan(world.observed(), SETTINGS, T0 + 20, "t").look_again_at is None


def test_capacity_that_is_missing_for_another_reason_does_not_wait_for_broken_engines():
    world = engines_of(World(pool(4)), *chained(3), serving(engine(7)))
    assert len(actions(world.observed(), T0, CreateEngine)) == 2


def test_a_wave_that_was_replaced_leaves_one_witness_and_no_evidence_stays_for_ever():
    first = [engine(slot, created_at=T0 - 100, failed_at=T0 - 50) for slot in range(3)]
    second = [engine(slot + 3, created_at=T0 - 40, failed_at=T0) for slot in range(3)]
    world = engines_of(World(pool(3)), *first, *second)
    assert [each.name for each in actions(world.observed(), T0, DeleteEngine)] == [e.name for e in first[1:]]
    assert len(actions(world.observed(), T0 + KEPT_S, DeleteEngine)) == 6


def test_a_long_chain_keeps_its_newest_links_alone():
    links = chained(KEPT + 2)
    world = engines_of(World(pool(1)), *links)
    assert [each.name for each in actions(world.observed(), T0, DeleteEngine)] == [e.name for e in links[:2]]


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
    for text in ("no json", "[]", '{"engine": 3}'):
        foreign = replace(serving(engine(0)), applied_template=text)
        (created,) = actions(engines_of(World(pool(1)), foreign).observed(), kind=CreateEngine)
        assert created.reason.message == "the engine does not say from which spec it was made"


def with_template(change, made_for=None):
    """A serving engine whose applied template was written by another release."""
    made = serving(engine(0, made_for))
    template = json.loads(made.applied_template)
    change(template)
    return replace(made, applied_template=json.dumps(template), builder_revision="0")


def test_a_release_with_new_fields_replaces_no_engine_of_an_older_one():
    older = with_template(lambda template: template["engine"].pop("startupTimeoutSeconds"))
    assert actions(engines_of(World(pool(1)), older).observed()) == []


def test_a_release_without_a_field_replaces_no_engine_of_a_newer_one():
    env = {"engine": {"env": [{"name": "A", "value": "1"}]}}

    def add(template):
        template["engine"]["unheard"] = 1
        template["engine"]["env"][0]["unheard"] = 1
        template["unheard"] = {}

    newer = with_template(add, pool(1, **env))
    assert actions(engines_of(World(pool(1, **env)), newer).observed()) == []


def test_two_ways_to_write_one_amount_are_no_change():
    before = pool(1, resources={"limits": {"memory": "1024Mi", "nvidia.com/gpu": 1}})
    now = pool(1, resources={"limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}})
    assert actions(engines_of(World(now), serving(engine(0, before))).observed()) == []


def test_a_changed_argument_is_named_by_its_flag():
    args = {"engine": {"args": ["--max-model-len", "8192"]}}
    before = serving(engine(0, pool(1, engine={"args": ["--max-model-len", "4096"]})))
    (created,) = actions(engines_of(World(pool(1, **args)), before).observed(), kind=CreateEngine)
    assert created.reason.message == "spec.engine.args --max-model-len: changed"


def test_an_engine_on_a_node_that_stopped_answering_does_not_count_as_serving():
    world = engines_of(World(pool(2)), serving(engine(0)), replace(serving(engine(1)), lost_contact=True))
    assert world.observed().available == 1
    assert actions(world.observed()) == []


def test_a_slot_is_not_used_again_while_its_pod_is_on_its_way_out():
    world = engines_of(World(pool(1)), engine(0, terminating=True))
    assert [action.name.rpartition("-")[2] for action in actions(world.observed(), kind=CreateEngine)] == ["1"]


def test_the_engine_with_the_least_in_flight_and_cached_leaves_first():
    world = engines_of(World(pool(2)), *(serving(engine(slot)) for slot in range(3)))
    names = [each.name for each in world.engines]
    states = [worker_state(names[0], in_flight=2), worker_state(names[1], blocks=9), worker_state(names[2], blocks=3)]
    found = actions(replace(world.observed(), routers=(router(states),)))
    assert [(type(action), action.name) for action in found] == [(MarkDraining, names[2])]


def test_an_engine_that_does_not_serve_yet_leaves_before_an_idle_one_that_does():
    world = engines_of(World(pool(1)), serving(engine(0)), engine(1))
    assert [action.name for action in actions(world.observed())] == [world.engines[1].name]


def test_of_two_that_leave_the_warmer_one_is_called_back():
    leaving = [replace(serving(engine(slot)), draining_since=T0) for slot in (0, 1)]
    world = engines_of(World(pool(1)), *leaving)
    for warm, cold in (leaving, leaving[::-1]):
        states = [worker_state(warm.name, blocks=9), worker_state(cold.name, blocks=1)]
        found = actions(replace(world.observed(), routers=(router(states),)), kind=ClearDraining)
        assert [action.name for action in found] == [warm.name]


def test_replacements_of_engines_that_break_together_are_held_back_together_and_counted_once():
    first = [engine(slot, created_at=T0 - 100, failed_at=T0 - 20) for slot in range(3)]
    second = [engine(slot + 3, created_at=T0 - 10, failed_at=T0) for slot in range(2)]
    made_since = serving(replace(engine(5), created_at=T0 - 10))
    world = engines_of(World(pool(3)), *first, *second, made_since)
    assert actions(world.observed(), T0, CreateEngine) == []
    assert len(actions(world.observed(), T0 + 5, CreateEngine)) == 2


def test_one_newer_engine_stands_for_one_broken_one_only():
    first = [engine(slot, created_at=T0 - 100, failed_at=T0 - 20) for slot in range(2)]
    chained_to_them = engine(2, created_at=T0 - 10, failed_at=T0)
    seen = engines_of(World(pool(2)), *first, chained_to_them).observed()
    assert [each.engine.name for each in unreplaced(seen)] == [first[1].name, chained_to_them.name]


def test_what_was_made_in_the_second_in_which_another_broke_is_no_link():
    """Times are whole seconds: it may as well have been there before."""
    together = [engine(slot, created_at=T0, failed_at=T0) for slot in range(3)]
    assert len(actions(engines_of(World(pool(3)), *together).observed(), T0, CreateEngine)) == 3


def test_a_router_on_its_way_out_admits_no_engine():
    ready = engine(0, containers_ready_since=T0)
    leaving = replace(router([worker_state(ready.name, synced=False)], name="leaving"), terminating=True)
    knows = router([worker_state(ready.name)])
    seen = engines_of(World(pool(1)), ready).observed()
    assert actions(replace(seen, routers=(leaving,)), kind=SetRoutable) == []
    assert len(actions(replace(seen, routers=(leaving, knows)), kind=SetRoutable)) == 1

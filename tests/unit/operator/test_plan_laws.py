"""Laws of `plan`, over worlds of every kind."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.build.names import template_hash
from kvpool_operator.observe import engine_of
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import ClearDraining, CreateEngine, DeleteEngine, MarkDraining
from kvpool_operator.plan.broken import KEPT_S
from pool_world import SETTINGS, T0, World, pod_manifest, pool

STEPS = 60
STATES = ("starting", "ready", "serving", "draining", "failed", "terminating", "lost")


@st.composite
def worlds(draw) -> World:
    """Engines of two templates in any state, beside any number asked for."""
    surge, unavailable = draw(st.sampled_from([(1, 0), (0, 1), (2, 1), (1, 2)]))
    rollout = {"maxSurge": surge, "maxUnavailable": unavailable}
    asked = pool(draw(st.integers(0, 5)), rollout=rollout, drain={"timeoutSeconds": 20})
    before = pool(1, rollout=rollout, engine={"blockSize": 32})
    world = World(asked, has_children=draw(st.booleans()), silent_until=draw(st.sampled_from([0.0, T0 + 8])))
    for slot in range(draw(st.integers(0, 6))):
        template = draw(st.sampled_from([asked, before]))
        manifest = engine_pod(template, slot, SETTINGS.builder_revision)
        engine = engine_of(pod_manifest(manifest, f"old{slot}", T0 - draw(st.integers(0, 100))))
        state = draw(st.sampled_from(STATES))
        world.engines.append(in_state(engine, state, draw(st.integers(0, 30))))
        world.in_flight[engine.name] = draw(st.integers(0, 5))
    world.told_to_drain = frozenset(e.name for e in world.engines if e.draining_since and draw(st.booleans()))
    return world


def in_state(engine, state: str, age: int):
    since = T0 - age
    facts = {
        "starting": {},
        "ready": {"containers_ready_since": since},
        "serving": {"containers_ready_since": since, "routable": True},
        "draining": {"containers_ready_since": since, "routable": True, "draining_since": since},
        "failed": {"failed_at": since},
        "terminating": {"terminating": True},
        "lost": {"containers_ready_since": since, "routable": True, "lost_contact": True},
    }
    return replace(engine, **facts[state])


def planned(world: World):
    return plan(world.observed(), SETTINGS, world.now, "fresh")


def settle(world: World) -> None:
    for _ in range(STEPS):
        world.apply(planned(world).actions)
        world.live()


def find_the_lost(world: World) -> None:
    """Their nodes come back."""
    world.engines = [replace(engine, lost_contact=False) for engine in world.engines]


@given(worlds())
def test_every_world_converges_to_what_is_asked_and_then_rests(world):
    world.now += KEPT_S + 100
    settle(world)
    find_the_lost(world)
    settle(world)
    assert planned(world).actions == ()
    seen = world.observed()
    assert len(seen.kept) == len([e for e in seen.engines if e.active]) == world.pool.spec.replicas
    assert seen.available == world.pool.spec.replicas


@given(worlds())
def test_a_plan_once_applied_is_not_made_again(world):
    first = planned(world).actions
    world.apply(first)
    assert not set(map(repr, first)) & set(map(repr, planned(world).actions))


@given(worlds())
def test_a_plan_follows_from_the_observation_alone(world):
    seen = world.observed()
    shuffled = replace(seen, engines=tuple(seen.engines), routers=tuple(reversed(seen.routers)))
    assert plan(seen, SETTINGS, T0, "t") == plan(shuffled, SETTINGS, T0, "t")


@given(worlds())
def test_a_plan_does_not_contradict_itself(world):
    for _ in range(8):
        actions = planned(world).actions
        fates = [a.name for a in actions if isinstance(a, ClearDraining | CreateEngine | DeleteEngine | MarkDraining)]
        assert len(fates) == len(set(fates))
        world.apply(actions)
        world.live()


@given(worlds())
def test_each_action_has_its_reason(world):
    for _ in range(8):
        actions = planned(world).actions
        assert all(action.reason.code and action.reason.message for action in actions)
        world.apply(actions)
        world.live()


@given(worlds())
def test_never_more_stand_than_replicas_and_surge_by_our_doing(world):
    most = world.pool.spec.replicas + world.pool.spec.rollout.max_surge
    for _ in range(STEPS):
        before = sum(engine.active for engine in world.engines)
        world.apply(planned(world).actions)
        assert sum(engine.active for engine in world.engines) <= max(before, most)
        world.live()


@given(worlds())
def test_never_fewer_serve_than_allowed_by_our_doing(world):
    fewest = world.pool.spec.replicas - world.pool.spec.rollout.max_unavailable
    for _ in range(STEPS):
        before = world.observed().available
        world.apply(planned(world).actions)
        assert world.observed().available >= min(before, fewest)
        world.live()


@given(worlds())
def test_nobody_who_waits_loses_an_engine_before_the_deadline(world):
    """Nor does anybody who could still come: every router has said that it sends nothing new."""
    timeout = world.pool.spec.drain.timeout_seconds
    for _ in range(STEPS):
        by_name = {engine.name: engine for engine in world.engines}
        for action in planned(world).actions:
            if isinstance(action, DeleteEngine):
                engine = by_name[action.name]
                due = engine.draining_since is not None and world.now >= engine.draining_since + timeout
                never_served = engine.containers_ready_since is None
                let_go = engine.name in world.told_to_drain and world.now >= world.silent_until
                at_rest = not world.in_flight.get(engine.name) and (let_go or never_served)
                assert due or engine.failed_at is not None or at_rest
        world.apply(planned(world).actions)
        world.live()


@given(worlds())
def test_no_engine_is_sent_away_and_called_back_while_nobody_changes_his_mind(world):
    marked = set()
    for _ in range(STEPS):
        actions = planned(world).actions
        assert not marked & {action.name for action in actions if isinstance(action, ClearDraining)}
        marked |= {action.name for action in actions if isinstance(action, MarkDraining)}
        world.apply(actions)
        world.live()


@given(worlds())
def test_what_is_as_asked_and_serves_only_grows_until_it_is_enough(world):
    def right():
        hashes = template_hash(world.pool, SETTINGS.builder_revision)
        return sum(e.available and e.template_hash == hashes for e in world.observed().engines)

    for _ in range(STEPS):
        before = min(right(), world.pool.spec.replicas)
        world.apply(planned(world).actions)
        world.live()
        assert right() >= before


@given(worlds(), st.integers(1, 4))
def test_missing_engines_never_wait_for_a_first_broken_one(world, replicas):
    world.engines = [engine for engine in world.engines if engine.failed_at is None][:1]
    world.engines = [replace(engine, failed_at=T0, draining_since=None) for engine in world.engines]
    created = [action for action in planned(world).actions if isinstance(action, CreateEngine)]
    assert len(created) == world.pool.spec.replicas


@given(worlds())
def test_an_outdated_engine_goes_before_a_current_one(world):
    seen = world.observed()
    marked = {action.name for action in planned(world).actions if isinstance(action, MarkDraining)}
    current = seen.pool.spec.engine.block_size
    old = {e.name for e in seen.kept if f'"blockSize":{current}' not in e.applied_template}
    if marked - old:
        assert old <= marked

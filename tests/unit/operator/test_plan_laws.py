"""Laws of `plan`, over worlds of every kind."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.build.names import template_hash
from kvpool_operator.observe import engine_of
from kvpool_operator.plan import plan
from kvpool_operator.plan.actions import ClearDraining, CreateEngine, DeleteEngine, MarkDraining
from kvpool_operator.plan.broken import KEPT_S
from pool_world import SETTINGS, T0, World, pod_manifest, pool

STEPS = 60
unhurried = settings(deadline=None)
"""A law is not about time, and the machine may be busy."""
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


def rounds(world: World):
    """The actions of each round before they are done, until the world is at rest."""
    for _ in range(STEPS):
        actions = planned(world).actions
        yield actions
        world.apply(actions)
        world.live()
        if not actions and all(engine.available for engine in world.engines if engine.active):
            return


def settle(world: World) -> None:
    for _ in range(STEPS):
        world.apply(planned(world).actions)
        world.live()


def find_the_lost(world: World) -> None:
    """Their nodes come back."""
    world.engines = [replace(engine, lost_contact=False) for engine in world.engines]


@unhurried
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


@unhurried
@given(worlds())
def test_a_plan_once_applied_is_not_made_again(world):
    first = planned(world).actions
    world.apply(first)
    assert not set(map(repr, first)) & set(map(repr, planned(world).actions))


@unhurried
@given(worlds(), st.randoms())
def test_a_plan_follows_from_what_is_seen_in_whatever_order(world, random):
    seen = world.observed()
    engines = list(seen.engines)
    random.shuffle(engines)
    first, second = planned(world), plan(replace(seen, engines=tuple(engines)), SETTINGS, world.now, "fresh")
    assert sorted(map(repr, first.actions)) == sorted(map(repr, second.actions))
    assert first.look_again_at == second.look_again_at


@unhurried
@given(worlds())
def test_a_plan_says_why_and_does_not_contradict_itself(world):
    for actions in rounds(world):
        assert all(action.reason.code and action.reason.message for action in actions)
        fates = [a.name for a in actions if isinstance(a, ClearDraining | CreateEngine | DeleteEngine | MarkDraining)]
        assert len(fates) == len(set(fates))


@unhurried
@given(worlds())
def test_never_more_stand_than_replicas_and_surge_by_our_doing(world):
    most = world.pool.spec.replicas + world.pool.spec.rollout.max_surge
    for actions in rounds(world):
        stand = sum(engine.active for engine in world.engines)
        made = sum(isinstance(action, CreateEngine) for action in actions)
        assert made == 0 or stand + made <= most


@unhurried
@given(worlds())
def test_never_fewer_serve_than_allowed_by_our_doing(world):
    fewest = world.pool.spec.replicas - world.pool.spec.rollout.max_unavailable
    for actions in rounds(world):
        serving = {engine.name for engine in world.engines if engine.available}
        left = serving - {action.name for action in actions if isinstance(action, MarkDraining | DeleteEngine)}
        assert len(left) >= min(len(serving), fewest)


@unhurried
@given(worlds())
def test_nobody_who_waits_loses_an_engine_before_the_deadline(world):
    """Nor does anybody who could still come: every router has said that it sends nothing new."""
    timeout = world.pool.spec.drain.timeout_seconds
    for actions in rounds(world):
        by_name = {engine.name: engine for engine in world.engines}
        for engine in (by_name[action.name] for action in actions if isinstance(action, DeleteEngine)):
            due = engine.draining_since is not None and world.now >= engine.draining_since + timeout
            never_served = engine.containers_ready_since is None
            let_go = engine.name in world.told_to_drain and world.now >= world.silent_until
            at_rest = not world.in_flight.get(engine.name) and (let_go or never_served)
            assert due or engine.failed_at is not None or at_rest


@unhurried
@given(worlds())
def test_no_engine_is_sent_away_and_called_back_while_nobody_changes_his_mind(world):
    marked = set()
    for actions in rounds(world):
        assert not marked & {action.name for action in actions if isinstance(action, ClearDraining)}
        marked |= {action.name for action in actions if isinstance(action, MarkDraining)}


@unhurried
@given(worlds())
def test_what_is_as_asked_and_serves_only_grows_until_it_is_enough(world):
    wanted = template_hash(world.pool, SETTINGS.builder_revision)
    before = 0
    for _ in rounds(world):
        right = sum(engine.available and engine.template_hash == wanted for engine in world.engines)
        assert right >= min(before, world.pool.spec.replicas)
        before = right


@unhurried
@given(worlds())
def test_missing_engines_never_wait_for_a_first_broken_one(world):
    broken = [engine for engine in world.engines if engine.failed_at is None][:1]
    world.engines = [replace(engine, failed_at=T0, draining_since=None, terminating=False) for engine in broken]
    created = [action for action in planned(world).actions if isinstance(action, CreateEngine)]
    assert len(created) == world.pool.spec.replicas


@unhurried
@given(worlds())
def test_an_outdated_engine_goes_before_a_current_one(world):
    seen = world.observed()
    marked = {action.name for action in planned(world).actions if isinstance(action, MarkDraining)}
    current = seen.pool.spec.engine.block_size
    old = {e.name for e in seen.kept if f'"blockSize":{current}' not in e.applied_template}
    if marked - old:
        assert old <= marked

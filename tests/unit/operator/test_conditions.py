"""The pool's status: all conditions from the first visit on, each with the first cause."""

from dataclasses import replace

import pytest
from kvpool_api.conditions import ConditionType
from kvpool_api.pool import ObjectMeta
from kvpool_api.status import InferencePoolStatus
from kvpool_api.wire import ASKS_ENGINES, EventState, SiblingState, TokenParity
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.observe import engine_of
from kvpool_operator.observed import Observed
from kvpool_operator.plan.actions import ApplyChild, CreateEngine, Done, because
from kvpool_operator.status import status_of, status_of_unreadable
from pool_world import SETTINGS, T0, pod_manifest, pool, router, router_state, serving, silent_router, worker_state

WHY = because("Created", "0 of 2 exist")
CRASHED = {
    "containerStatuses": [
        {"name": "engine", "ready": False, "restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}
    ]
}


def engine(slot=0, **status):
    return engine_of(pod_manifest(engine_pod(pool(), slot, SETTINGS.builder_revision), f"u{slot}", **status))


def world(*engines, replicas=2, routers=None, before=None, **spec):
    asked = pool(replicas, generation=7, **{"router": {"replicas": 1}, **spec})
    asked = asked.model_copy(update={"status": before or InferencePoolStatus()})
    heard = router([worker_state(each.name) for each in engines])
    return Observed(asked, tuple(engines), (heard,) if routers is None else routers)


def status(seen, *done, now=T0):
    return status_of(seen, done, SETTINGS, "http://qwen", now)


def conditions(seen, *done, now=T0):
    return {ConditionType(each.type): each for each in status(seen, *done, now=now).conditions}


def whole(count=2, **facts):
    return world(*(serving(engine(slot)) for slot in range(count)), **facts)


def test_all_conditions_stand_from_the_first_visit_and_speak_of_this_generation():
    found = status(world(routers=()))
    assert [each.type for each in found.conditions] == [kind.value for kind in ConditionType]
    assert {each.observed_generation for each in found.conditions} == {7}
    assert all(each.reason for each in found.conditions)


def test_a_whole_pool_is_ready_and_nothing_is_amiss():
    found = conditions(whole())
    told = {kind.value: each.status for kind, each in found.items()}
    assert told == {
        "Accepted": "True",
        "WorkloadReady": "True",
        "RouterReady": "True",
        "KVEventsFlowing": "True",
        "ScalingActive": "False",
        "Paused": "False",
        "Progressing": "False",
        "Degraded": "False",
        "Ready": "True",
    }
    assert found[ConditionType.READY].message == "2 of 2 engines are routable"


def test_the_counts_are_those_of_the_engines():
    old = replace(serving(engine(1)), builder_revision="0")
    leaving = replace(serving(engine(2)), draining_since=T0)
    gone = replace(engine(3), terminating=True)
    found = status(world(serving(engine(0)), old, leaving, gone, engine(4)))
    assert (found.replicas, found.desired_replicas, found.ready_replicas, found.routable_replicas) == (3, 2, 3, 2)
    assert found.outdated_replicas == 1
    assert found.selector == "kvpool.dev/pool=qwen,kvpool.dev/role=engine"
    assert (found.router.url, found.router.ready_replicas) == ("http://qwen", 1)


def test_a_pool_at_rest_has_the_same_status_again():
    first = status(whole())
    assert status(whole(before=first), now=T0 + 1000) == first


def test_a_time_moves_only_when_the_status_flips():
    before = status(whole())
    later = conditions(world(serving(engine(0)), engine(1), before=before), now=T0 + 60)
    assert later[ConditionType.WORKLOAD_READY].last_transition_time == "2027-01-15T08:01:00Z"
    assert later[ConditionType.ROUTER_READY].last_transition_time == "2027-01-15T08:00:00Z"


@pytest.mark.parametrize(
    ("serve", "replicas", "unavailable", "ready"),
    [(2, 2, 0, True), (1, 2, 0, False), (1, 2, 1, True), (0, 1, 1, False), (0, 0, 0, True), (3, 2, 0, True)],
)
def test_enough_engines_serve_or_not(serve, replicas, unavailable, ready):
    rollout = {"maxUnavailable": unavailable, "maxSurge": 1}
    found = conditions(whole(serve, replicas=replicas, rollout=rollout))[ConditionType.WORKLOAD_READY]
    assert (found.status == "True") == ready


def test_a_raised_number_alone_takes_no_readiness_away_and_a_lost_engine_does():
    before = status(whole())
    raised = world(serving(engine(0)), serving(engine(1)), engine(2), replicas=3, before=before)
    assert conditions(raised)[ConditionType.READY].status == "True"
    during = status(raised)
    lost = world(serving(engine(0)), engine(2), replicas=3, before=during)
    assert conditions(lost)[ConditionType.READY].status == "False"
    assert conditions(world(engine(0), replicas=3, before=during))[ConditionType.READY].status == "False"


def test_an_engine_that_loads_says_since_when_and_how_long_it_may():
    since = "2027-01-15T08:00:00Z"
    loading = engine(1, containerStatuses=[{"name": "engine", "state": {"running": {"startedAt": since}}}])
    waits = engine(1, containerStatuses=[{"name": "engine", "state": {"waiting": {"reason": "ContainerCreating"}}}])
    unknown = replace(engine(1), containers_ready_since=T0)
    for other, words in (
        (loading, f"has been loading since {since} and has 3600 s"),
        (waits, "waits for its image and volumes"),
        (engine(1), "waits for a node"),
    ):
        found = conditions(world(serving(engine(0)), other))[ConditionType.READY]
        assert found.reason == "EnginesStarting"
        assert found.message.endswith(f"; traffic is served by this one; {other.name} {words}")
    found = conditions(world(serving(engine(0)), unknown))[ConditionType.READY]
    assert found.message.endswith(f"routers have yet to learn the cache of {unknown.name}")
    assert conditions(world())[ConditionType.READY].message.endswith("no request can be served; none exists yet")


def test_a_pool_that_starts_without_trouble_is_not_degraded_and_one_that_falls_is_until_it_is_back():
    starting = world(engine(0), engine(1), routers=())
    first = status(starting)
    assert conditions(starting)[ConditionType.DEGRADED].status == "False"
    assert conditions(world(engine(0), engine(1), before=first))[ConditionType.DEGRADED].status == "False"
    fallen = world(serving(engine(0)), engine(1), before=status(whole()))
    assert conditions(fallen)[ConditionType.DEGRADED].status == "True"
    again = world(serving(engine(0)), engine(1), before=status(fallen, now=T0 + 5))
    assert conditions(again)[ConditionType.DEGRADED].status == "True"
    assert conditions(whole(before=status(again)))[ConditionType.DEGRADED].status == "False"


def test_the_cause_is_that_of_an_engine_that_does_not_serve():
    healed = serving(engine(0, **CRASHED))
    crashing = engine(1, **CRASHED)
    found = conditions(world(healed, crashing))
    for kind in (ConditionType.READY, ConditionType.WORKLOAD_READY, ConditionType.DEGRADED):
        assert found[kind].reason == "CrashLoop"
        assert crashing.name in found[kind].message


def test_a_rollout_that_does_not_come_up_is_told_while_the_old_engines_serve():
    found = conditions(world(serving(engine(0)), serving(engine(1)), engine(2, **CRASHED)))
    assert found[ConditionType.READY].status == "True"
    assert (found[ConditionType.DEGRADED].status, found[ConditionType.DEGRADED].reason) == ("True", "CrashLoop")


def test_an_engine_that_broke_and_is_not_replaced_yet_is_the_cause():
    evicted = engine(1, phase="Failed", reason="Evicted", message="low on memory")
    assert conditions(world(serving(engine(0)), evicted))[ConditionType.READY].reason == "Evicted"


def test_a_refused_child_means_the_spec_is_not_accepted():
    service = {"kind": "Service", "metadata": {"name": "qwen"}}
    found = conditions(whole(), Done(ApplyChild(service, WHY), "no such port"))
    assert found[ConditionType.ACCEPTED].message == "Service qwen: no such port"
    assert (found[ConditionType.READY].status, found[ConditionType.READY].reason) == ("False", "Refused")
    assert found[ConditionType.DEGRADED].status == "True"


def test_an_engine_that_is_refused_is_not_said_to_start():
    found = conditions(world(), Done(CreateEngine("p", {}, WHY), "no PriorityClass with name high was found"))
    for kind in (ConditionType.ACCEPTED, ConditionType.WORKLOAD_READY, ConditionType.READY, ConditionType.DEGRADED):
        assert found[kind].reason == "Refused"
    assert found[ConditionType.WORKLOAD_READY].message == (
        "0 of 2 engines are routable (2 are needed); no request can be served; "
        "p: no PriorityClass with name high was found"
    )


def test_a_surge_that_a_full_cluster_has_no_room_for_is_told_how_to_roll_in_place():
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    waiting = engine(2, conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    in_place = "roll in place: spec.rollout {maxSurge: 0, maxUnavailable: 1}"
    surge = conditions(world(serving(engine(0)), serving(engine(1)), waiting))[ConditionType.DEGRADED]
    assert surge.reason == "Unschedulable"
    assert surge.message.endswith(in_place)
    first_start = conditions(world(serving(engine(0)), waiting))[ConditionType.DEGRADED]
    assert first_start.reason == "Unschedulable"
    assert in_place not in first_start.message
    assert "add nodes, or ask for less (spec.resources)" in first_start.message


def test_a_quota_is_a_cause_and_leaves_the_spec_accepted():
    over = Done(CreateEngine("p", {}, WHY), "exceeded quota: gpus")
    found = conditions(world(serving(engine(0))), over)
    assert found[ConditionType.ACCEPTED].status == "True"
    assert found[ConditionType.READY].reason == "QuotaExceeded"


def lost(each, code=137, **ended):
    dead = {
        "name": "engine",
        "ready": False,
        "restartCount": 1,
        "lastState": {"terminated": {"exitCode": code, **ended}},
    }
    return replace(each, pod={**each.pod, "status": {"containerStatuses": [dead]}})


def test_a_pool_that_has_lost_half_of_its_engines_says_what_that_means():
    engines = [serving(engine(0)), lost(engine(1)), serving(engine(2)), lost(engine(3))]
    found = conditions(world(*engines, replicas=4, rollout={"maxUnavailable": 1, "maxSurge": 1}))
    for kind in (ConditionType.READY, ConditionType.WORKLOAD_READY):
        assert (found[kind].status, found[kind].reason) == ("False", "Killed")
        assert found[kind].message.startswith(
            "2 of 4 engines are routable (3 are needed: desired 4 less maxUnavailable 1); "
            f"traffic is served by these 2; {engines[1].name}: killed by SIGKILL (exit code 137), restarted once: "
        )


def test_a_pool_that_may_lack_some_engines_is_ready_and_says_which_and_why():
    rollout = {"maxUnavailable": 1, "maxSurge": 1}
    found = conditions(
        world(*(serving(engine(slot)) for slot in range(3)), lost(engine(3)), replicas=4, rollout=rollout)
    )
    assert found[ConditionType.READY].status == "True"
    assert found[ConditionType.READY].message.startswith(
        "3 of 4 engines are routable, which is enough (3 are needed: desired 4 less maxUnavailable 1); "
        f"{engine(3).name}: killed"
    )
    assert (found[ConditionType.DEGRADED].status, found[ConditionType.DEGRADED].reason) == ("True", "Killed")


@pytest.mark.parametrize(
    ("serve", "replicas", "unavailable", "words"),
    [
        (0, 1, 1, "0 of 1 engines are routable (1 is needed); no request can be served; "),
        (
            0,
            3,
            2,
            "0 of 3 engines are routable (1 is needed: desired 3 less maxUnavailable 2); no request can be served; ",
        ),
        (
            1,
            2,
            0,
            "1 of 2 engines are routable (2 are needed); traffic is served by this",
        ),
        (3, 2, 0, "3 engines are routable, 2 wanted"),
    ],
)
def test_how_many_engines_are_needed_and_what_that_means(serve, replicas, unavailable, words):
    rollout = {"maxUnavailable": unavailable, "maxSurge": 1}
    found = conditions(whole(serve, replicas=replicas, rollout=rollout))[ConditionType.WORKLOAD_READY]
    assert found.message.startswith(words)


def test_engines_that_no_router_sends_to_serve_no_traffic():
    found = conditions(whole(1, routers=(silent_router(),)))[ConditionType.WORKLOAD_READY]
    assert "; no router is ready to send them requests; 1 exist so far" in found.message


def test_an_engine_that_has_served_and_answers_no_more_is_not_said_to_load():
    since = "2027-01-15T08:00:00Z"
    hung = engine(1, containerStatuses=[{"name": "engine", "state": {"running": {"startedAt": since}}}])
    found = conditions(world(serving(engine(0)), replace(hung, routable=True)))[ConditionType.READY]
    assert found.message.endswith(f"{hung.name} has served and now fails its readiness probe")


def test_a_pool_that_grows_is_ready_and_says_what_is_under_way():
    during = world(serving(engine(0)), serving(engine(1)), engine(2), replicas=3, before=status(whole()))
    assert conditions(during)[ConditionType.READY].message == (
        f"2 of 3 engines are routable, as many as before it was scaled up; {engine(2).name} waits for a node"
    )


def test_a_pool_without_engines_by_wish_says_that_it_answers_nothing():
    for engines, words in (
        ((), "there is no engine and "),
        ((replace(engine(0), draining_since=T0),), "(1 still to end)"),
    ):
        found = conditions(world(*engines, replicas=0))
        for kind in (ConditionType.READY, ConditionType.WORKLOAD_READY):
            assert (found[kind].status, found[kind].reason) == ("True", "ScaledToZero")
            assert words in found[kind].message
            assert "answered with 503" in found[kind].message
        assert found[ConditionType.DEGRADED].status == "False"


def test_a_router_that_is_not_ready_says_why():
    unready = replace(router([]), ready=False)
    unready = replace(unready, state=unready.state.model_copy(update={"ready_reason": "waiting for workers"}))
    assert conditions(whole(routers=(unready,)))[ConditionType.READY].message.endswith("waiting for workers")
    mute = conditions(whole(routers=(silent_router(),)))[ConditionType.READY]
    assert (mute.reason, mute.message) == ("RoutersStarting", "0 of 1 routers are ready; qwen-router-0: no answer")
    assert conditions(whole(routers=(UNPULLED,)))[ConditionType.READY].reason == "ImagePullBackOff"
    assert conditions(whole(routers=(replace(router([]), terminating=True),)))[ConditionType.READY].status == "False"


def test_a_router_that_a_quota_keeps_away_says_so_and_a_pool_that_never_served_is_degraded_by_it():
    words = 'pods "qwen-router-1-x" is forbidden: exceeded quota: few'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    ours = {"metadata": {"labels": {"kvpool.dev/pool": "qwen"}}, "status": {"conditions": [refused]}}
    seen = replace(whole(routers=()), children={("Deployment", "qwen-router"): ours})
    found = conditions(seen)
    told = "raise the namespace's ResourceQuota, or lower spec.router.replicas"
    assert found[ConditionType.READY].reason == "QuotaExceeded"
    assert found[ConditionType.READY].message == f"0 of 1 routers are ready; {words}; {told}"
    assert found[ConditionType.DEGRADED].status == "True"
    refused["message"] = "violates PodSecurity"
    assert conditions(seen)[ConditionType.ROUTER_READY].reason == "FailedCreate"
    refused["status"] = "False"
    assert conditions(seen)[ConditionType.ROUTER_READY].reason == "RoutersStarting"


def test_a_router_that_falls_silent_is_not_taken_for_one_that_starts():
    served = status(whole(), now=T0)
    hung = replace(silent_router(), ready=True, has_been_ready=True)
    while_its_pod_is_ready = conditions(whole(routers=(hung,), before=served))[ConditionType.ROUTER_READY]
    assert while_its_pod_is_ready.status == "True"
    assert while_its_pod_is_ready.message.endswith("qwen-router-0 does not tell its state: no answer")
    later = conditions(whole(routers=(replace(hung, ready=False),), before=served))
    assert later[ConditionType.READY].reason == "RoutersSilent"
    assert "does not tell its state: no answer; the kubelet restarts" in later[ConditionType.READY].message
    assert (later[ConditionType.PROGRESSING].status, later[ConditionType.PROGRESSING].reason) == (
        "False",
        "RoutersSilent",
    )


def test_routers_of_a_pool_that_was_in_trouble_from_its_first_moment_are_not_said_to_have_served():
    born = status(world(engine(0, **CRASHED), routers=(silent_router(),)))
    found = conditions(whole(routers=(silent_router(),), before=born), now=T0 + 60)
    assert found[ConditionType.ROUTER_READY].reason == "RoutersStarting"
    assert found[ConditionType.DEGRADED].status == "False"


def test_a_router_that_serves_and_stays_mute_degrades_the_pool_with_the_mend():
    mute = replace(silent_router(), ready=True, has_been_ready=True)
    once = conditions(whole(routers=(mute,), before=status(whole())))
    assert (once[ConditionType.ROUTER_READY].status, once[ConditionType.DEGRADED].status) == ("True", "False")
    assert once[ConditionType.KV_EVENTS_FLOWING].message == "qwen-router-0 does not tell its state: no answer"
    before = status(whole(routers=(mute,)))
    for each, mend in (
        (mute, "see its log, and what stands between"),
        (replace(mute, mend="restart it"), "restart it"),
    ):
        found = conditions(whole(routers=(each,), before=before))
        assert found[ConditionType.READY].status == "True"
        degraded = found[ConditionType.DEGRADED]
        assert (degraded.status, degraded.reason) == ("True", "RoutersSilent")
        assert "no answer; requests are served, but nobody sees" in degraded.message
        assert mend in degraded.message
    assert conditions(whole(before=before))[ConditionType.DEGRADED].status == "False"


def test_a_router_that_asks_engines_for_what_it_should_read_itself_says_so():
    why = "OSError: 401 Client Error. (Request ID: Root=1-65), the hub is asked again"
    asking = router_state([worker_state(engine(slot).name) for slot in (0, 1)])
    asking = asking.model_copy(update={"tokenizer": f"{ASKS_ENGINES} for every text: {why}"})
    found = conditions(whole(routers=(replace(router([]), state=asking),)))
    assert found[ConditionType.ROUTER_READY].message == (
        "1 of 1 routers are ready; qwen-router-0 asks an engine's /tokenize for every text: "
        "OSError: 401 Client Error., the hub is asked again"
    )
    assert found[ConditionType.DEGRADED].status == "False"


def test_a_pool_whose_routers_are_not_all_there_is_not_as_its_spec_asks():
    starts = conditions(whole(routers=(silent_router(),)))[ConditionType.PROGRESSING]
    assert (starts.status, starts.reason) == ("True", "RoutersStarting")
    one_of_two = conditions(whole(router={"replicas": 2}))[ConditionType.PROGRESSING]
    assert (one_of_two.status, one_of_two.reason, one_of_two.message) == (
        "True",
        "RoutersStarting",
        "1 of 2 routers are ready",
    )


def hearing(name, heard, *others):
    siblings = [SiblingState(router=each, heard=heard, reason="", in_flight=0) for each in others]
    found = router([worker_state(engine(slot).name) for slot in (0, 1)], name)
    return replace(found, state=found.state.model_copy(update={"siblings": siblings}))


def of_pod(each, ready_since="2027-01-15T07:00:00Z", version="1"):
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": ready_since}
    meta = {"name": each.name, "labels": {"pod-template-hash": version}}
    return replace(each, pod={"metadata": meta, "status": {"conditions": [ready]}})


APART = (of_pod(hearing("r-0", False, "r-1")), of_pod(hearing("r-1", True, "r-0")))


def test_routers_that_stay_apart_degrade_a_pool_that_is_still_ready_with_the_mend():
    two = {"router": {"replicas": 2}}
    once = conditions(whole(routers=APART, before=status(whole()), **two))
    assert (once[ConditionType.ROUTER_READY].status, once[ConditionType.DEGRADED].status) == ("True", "False")
    assert once[ConditionType.ROUTER_READY].message == "2 of 2 routers are ready; r-0 does not hear r-1"
    before = status(whole(routers=APART, **two))
    found = conditions(whole(routers=APART, before=before, **two))
    assert found[ConditionType.READY].status == "True"
    degraded = found[ConditionType.DEGRADED]
    assert (degraded.status, degraded.reason) == ("True", "RoutersApart")
    assert degraded.message.startswith("r-0 does not hear r-1; requests are served, but ")
    assert "admin port 8001 (NetworkPolicies" in degraded.message
    again = status(whole(routers=APART, before=before, **two))
    assert status(whole(routers=APART[::-1], before=again, **two), now=T0 + 60) == again
    whole_again = (of_pod(hearing("r-0", True, "r-1")), APART[1])
    assert conditions(whole(routers=whole_again, before=again, **two))[ConditionType.DEGRADED].status == "False"


@pytest.mark.parametrize(
    "other",
    [
        of_pod(hearing("r-1", True, "r-0"), ready_since="2027-01-15T07:59:55Z"),
        of_pod(hearing("r-1", True, "r-0"), version="2"),
        replace(APART[1], terminating=True),
        replace(APART[1], ready=False),
        replace(APART[1], state=None, silent="no answer"),
        of_pod(hearing("r-2", True)),
    ],
    ids=["just come", "rolled", "ends", "not ready", "silent", "gone"],
)
def test_a_sibling_that_cannot_be_heard_yet_or_any_more_is_nothing_to_mend(other):
    before = status(whole(routers=APART))
    found = conditions(whole(routers=(APART[0], other), before=before))
    assert found[ConditionType.ROUTER_READY].reason != "RoutersApart"
    assert found[ConditionType.DEGRADED].reason != "RoutersApart"


def test_an_engine_that_routers_get_no_answer_from_degrades_a_pool_that_is_still_ready():
    heard = router([worker_state(engine(0).name), worker_state(engine(1).name, circuit_open=True)])
    found = conditions(whole(routers=(heard,)))
    assert found[ConditionType.READY].status == "True"
    degraded = found[ConditionType.DEGRADED]
    assert (degraded.status, degraded.reason) == ("True", "EnginesSilent")
    assert f"no answer from {engine(1).name} and prefer others" in degraded.message


def test_an_engine_that_reads_prompts_otherwise_than_a_router_degrades_a_pool_that_is_still_ready():
    differs = {"tokens": TokenParity.DIFFERS, "tokens_reason": "The engine's token 3 of a chat is 7, this router's 8."}
    heard = router([worker_state(engine(0).name), worker_state(engine(1).name, **differs)])
    found = conditions(whole(routers=(heard,)))
    assert found[ConditionType.READY].status == found[ConditionType.KV_EVENTS_FLOWING].status == "True"
    degraded = found[ConditionType.DEGRADED]
    assert (degraded.status, degraded.reason) == ("True", "TokensDiffer")
    assert degraded.message.startswith(f"{engine(1).name}: The engine's token 3 of a chat is 7, this router's 8; ")


UNPULLED = replace(
    silent_router(),
    pod={
        "metadata": {"name": "r"},
        "status": {
            "containerStatuses": [
                {"name": "router", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
            ]
        },
    },
)


def test_a_new_router_that_cannot_come_degrades_a_pool_whose_old_one_serves():
    seen = whole()
    found = conditions(replace(seen, routers=(*seen.routers, UNPULLED)))
    assert found[ConditionType.READY].status == found[ConditionType.ROUTER_READY].status == "True"
    degraded = found[ConditionType.DEGRADED]
    assert (degraded.status, degraded.reason) == ("True", "ImagePullBackOff")
    assert degraded.message == conditions(replace(seen, routers=(UNPULLED,)))[ConditionType.DEGRADED].message.replace(
        "0 of 1 routers are ready; ", ""
    )
    evicted = {**UNPULLED.pod, "status": {**UNPULLED.pod["status"], "phase": "Failed"}}
    for past in (replace(UNPULLED, terminating=True), replace(UNPULLED, pod=evicted)):
        assert conditions(replace(seen, routers=(*seen.routers, past)))[ConditionType.DEGRADED].status == "False"


@pytest.mark.parametrize(
    ("engines", "asked_router", "reason"),
    [
        ((engine(0, **CRASHED),), silent_router(), "CrashLoop"),
        ((engine(0, **CRASHED),), UNPULLED, "CrashLoop"),
        ((engine(0),), UNPULLED, "ImagePullBackOff"),
        ((engine(0),), silent_router(), "EnginesStarting"),
        ((serving(engine(0)), serving(engine(1)), engine(2, **CRASHED)), silent_router(), "RoutersStarting"),
        ((lost(engine(0)), engine(1, **CRASHED)), silent_router(), "Killed"),
        (
            (lost(engine(0)), lost(engine(1), code=1, message="OSError: [Errno 98] Address already in use")),
            UNPULLED,
            "PortInUse",
        ),
    ],
)
def test_readiness_names_the_deepest_cause_and_not_who_waits_for_it(engines, asked_router, reason):
    assert conditions(world(*engines, routers=(asked_router,)))[ConditionType.READY].reason == reason


def test_a_refusal_goes_before_every_other_cause():
    refused = Done(ApplyChild({"kind": "Service", "metadata": {"name": "qwen"}}, WHY), "no such port")
    found = conditions(world(engine(0, **CRASHED), routers=(UNPULLED,)), refused)
    assert found[ConditionType.READY].reason == "Refused"


def test_events_flow_when_every_map_of_a_serving_engine_is_exact():
    first, second, new = serving(engine(0)), serving(engine(1)), engine(2)
    learning = worker_state(new.name, events=EventState.DEGRADED)
    known = [worker_state(first.name), worker_state(second.name)]

    def flowing(*workers):
        seen = world(first, second, new, routers=(router(list(workers)),))
        return conditions(seen)[ConditionType.KV_EVENTS_FLOWING]

    assert flowing(*known, learning).status == "True"
    assert flowing(*known).message == "the map of 2 workers is exact"
    assert flowing(learning).status == "Unknown"
    blind = [
        worker_state(each.name, dp_rank=rank, events=EventState.APPROXIMATE, events_reason="no events")
        for each in (second, first)
        for rank in (1, 0)
    ]
    assert (flowing(*blind[:1]).reason, flowing(*blind[:1]).message) == (
        "Approximate",
        f"{second.name} rank 1: no events",
    )
    assert flowing(*blind).message == f"{first.name} rank 0: no events (3 more)"


def test_a_pool_without_events_is_degraded_and_ready():
    blind = [
        worker_state(engine(slot).name, events=EventState.APPROXIMATE, events_reason="no events") for slot in (0, 1)
    ]
    found = conditions(whole(routers=(router(blind),)))
    assert found[ConditionType.READY].status == "True"
    assert (found[ConditionType.DEGRADED].status, found[ConditionType.DEGRADED].reason) == ("True", "Approximate")


def test_what_is_under_way_is_told():
    def progress(seen, *done):
        found = conditions(seen, *done)[ConditionType.PROGRESSING]
        return found.status, found.reason, found.message

    created = Done(CreateEngine("qwen-x-0", {}, WHY), None)
    assert progress(world(), created) == ("True", "Created", "qwen-x-0: 0 of 2 exist")
    names = [engine(slot).name for slot in range(4)]
    assert progress(world(*map(engine, range(4)), replicas=4)) == (
        "True",
        "EnginesMoving",
        f"not serving yet: {names[0]}, {names[1]}, {names[2]} and 1 more",
    )
    leaving, hung = replace(serving(engine(1)), draining_since=T0), replace(engine(2), routable=True)
    assert progress(world(serving(engine(0)), leaving, hung))[2] == (
        f"not serving any more, to come back: {names[2]}; draining: {names[1]}"
    )
    assert progress(whole(1)) == ("True", "EnginesMissing", "1 of 2 engines exist")


def test_a_pool_that_is_not_understood_keeps_what_was_known_and_says_the_mend():
    before = status(whole())
    meta = ObjectMeta(name="qwen", generation=8)
    found = status_of_unreadable(meta, before, "spec.unheard: upgrade the operator", T0 + 5)
    told = {each.type: (each.status, each.reason) for each in found.conditions}
    assert told["Accepted"] == told["Ready"] == ("False", "NotUnderstood")
    assert told["Degraded"] == ("True", "NotUnderstood")
    assert told["WorkloadReady"][0] == "Unknown"
    assert (found.routable_replicas, found.observed_generation) == (2, 8)

"""Status and Events: written when something has changed, and not otherwise."""

import pytest
from kvpool_api.conditions import Condition
from kvpool_api.pool import ObjectMeta
from kvpool_api.status import InferencePoolStatus
from kvpool_operator.cluster.seam import NotFound, Refused
from kvpool_operator.plan.actions import (
    ApplyChild,
    CreateEngine,
    DeleteEngine,
    Done,
    MarkDraining,
    SetRoutable,
    because,
)
from kvpool_operator.report import is_bad, report
from pool_world import T0
from store_cluster import StoreCluster, writes_of

WHY = because("Created", "0 of 2 exist")
READY = {"last_transition_time": "2027-01-15T08:00:00Z", "reason": "R", "message": "words"}


def told(**statuses):
    return InferencePoolStatus(conditions=[Condition(type=t, status=s, **READY) for t, s in statuses.items()])


async def a_pool():
    cluster = StoreCluster()
    await cluster.user_applies()
    return cluster, ObjectMeta(name="qwen", namespace="default", uid=cluster.pool()["metadata"]["uid"])


async def test_a_pool_at_rest_writes_nothing():
    cluster, pool = await a_pool()
    await report(cluster, pool, told(Ready="True"), told(Ready="True"), (), T0)
    assert cluster.writes == []


async def test_a_status_is_written_by_its_own_manager_and_leaves_the_spec_alone():
    cluster, pool = await a_pool()
    before = cluster.pool()
    await report(cluster, pool, InferencePoolStatus(), told(Ready="False"), (), T0)
    after = cluster.pool()
    assert cluster.writes == [("InferencePool", "qwen", "status")]
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    assert after["status"]["conditions"][0]["type"] == "Ready"
    managers = {(each["manager"], each.get("subresource")) for each in after["metadata"]["managedFields"]}
    assert managers == {("user", None), ("kvpool-operator-status", "status")}


async def test_a_flip_is_an_event_and_the_first_conditions_are_none():
    cluster, pool = await a_pool()
    await report(cluster, pool, told(), told(Ready="False"), (), T0)
    assert cluster.events() == ()
    await report(cluster, pool, told(Ready="False"), told(Ready="True"), (), T0)
    (event,) = cluster.events()
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "R", "Ready is True: words")
    assert event["involvedObject"]["uid"] == pool.uid


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"Accepted": "False", "Degraded": "True", "Ready": "False"}, ["Accepted is False: words"]),
        ({"Accepted": "True", "Degraded": "True", "Ready": "False"}, ["Degraded is True: words"]),
        ({"Accepted": "True", "Degraded": "False", "Ready": "False", "RouterReady": "False"}, []),
    ],
)
async def test_a_pool_in_trouble_from_its_first_round_is_told_of_in_one_warning(first, words):
    cluster, pool = await a_pool()
    await report(cluster, pool, told(), told(**first), (), T0)
    assert [(event["type"], event["message"]) for event in cluster.events()] == [("Warning", each) for each in words]
    await report(cluster, pool, told(**first), told(**first), (), T0)
    assert len(cluster.events()) == len(words)


async def test_the_same_event_again_counts_and_keeps_its_first_time():
    cluster, pool = await a_pool()
    for later in range(3):
        await report(cluster, pool, told(Ready="True"), told(Ready="False"), (), T0 + later)
    (event,) = cluster.events()
    assert (event["count"], event["type"]) == (3, "Warning")
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:00:02Z")


class Killed(BaseException):
    """Nothing of the operator sees it coming."""


@pytest.mark.parametrize(("at", "counts"), [("Event", 1), ("InferencePool", 2)])
async def test_a_transition_is_told_at_least_once_wherever_the_operator_is_killed(at, counts):
    cluster, pool = await a_pool()
    before, after = told(Ready="True"), told(Ready="False")
    cluster.refusing = writes_of(at, Killed())
    with pytest.raises(Killed):
        await report(cluster, pool, before, after, (), T0)
    assert "status" not in cluster.pool()
    cluster.refusing = lambda target: None
    await report(cluster, pool, before, after, (), T0)
    (event,) = cluster.events()
    assert (event["message"], event["count"]) == ("Ready is False: words", counts)
    assert cluster.pool()["status"]["conditions"][0]["status"] == "False"


async def test_what_was_done_to_engines_is_told_and_new_children_gates_and_refusals_are_not():
    cluster, pool = await a_pool()
    done = [
        Done(CreateEngine("qwen-x-0", {}, WHY), None),
        Done(DeleteEngine("qwen-x-1", "u", WHY), "refused"),
        Done(SetRoutable("qwen-x-2", "u", WHY), None),
        Done(ApplyChild({"kind": "Service", "metadata": {"name": "qwen"}}, WHY), None),
    ]
    await report(cluster, pool, told(), told(), done, T0)
    assert [event["message"] for event in cluster.events()] == ["created engine qwen-x-0: 0 of 2 exist"]


async def test_many_deeds_of_one_kind_for_one_reason_are_one_event():
    cluster, pool = await a_pool()
    others = because("TemplateChanged", "it is outdated")
    done = [
        *(Done(CreateEngine(f"qwen-x-{slot}", {}, WHY), None) for slot in range(32)),
        Done(CreateEngine("qwen-x-32", {}, WHY), "exceeded quota"),
        *(Done(MarkDraining(f"qwen-y-{slot}", "u", others), None) for slot in range(2)),
    ]
    await report(cluster, pool, told(), told(), done, T0)
    assert sorted(event["message"] for event in cluster.events()) == [
        "created 32 engines (qwen-x-0, qwen-x-1, qwen-x-2 and 29 more): 0 of 2 exist",
        "draining 2 engines (qwen-y-0, qwen-y-1): it is outdated",
    ]


async def test_a_child_that_was_mended_is_told():
    cluster, pool = await a_pool()
    mended = ApplyChild({"kind": "Service"}, because("Created", "Service qwen was missing"))
    await report(cluster, pool, told(Ready="True"), told(Ready="True"), [Done(mended, None)], T0)
    (event,) = cluster.events()
    assert (event["reason"], event["message"]) == ("Created", "Service qwen was missing")


async def test_an_event_that_is_refused_stops_nothing_and_a_pool_that_is_gone_is_told():
    cluster, pool = await a_pool()
    cluster.refusing = writes_of("Event", Refused("no events"))
    await report(cluster, pool, told(Ready="True"), told(Ready="False"), (), T0)
    assert (cluster.events(), len(cluster.writes)) == ((), 1)
    nobody = ObjectMeta(name="gone", namespace="default")
    with pytest.raises(NotFound):
        await report(cluster, nobody, told(Ready="True"), told(Ready="False"), (), T0)


@pytest.mark.parametrize(
    ("kind", "status", "bad"),
    [
        ("Ready", "False", True),
        ("Ready", "True", False),
        ("KVEventsFlowing", "False", True),
        ("KVEventsFlowing", "True", False),
        ("KVEventsFlowing", "Unknown", False),
        ("Progressing", "True", False),
        ("Progressing", "False", False),
        ("ScalingActive", "False", False),
        ("Degraded", "True", True),
        ("Degraded", "False", False),
    ],
)
def test_only_what_somebody_should_look_at_is_a_warning(kind, status, bad):
    assert is_bad(Condition(type=kind, status=status, **READY)) == bad

"""The loop against a cluster that only keeps objects: rounds, rest, errors, and pools that come and go."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from eventually import eventually
from kvpool_api.conditions import ConditionType
from kvpool_api.wire import EventState, SiblingState
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Change, NotFound, Ref, Refused, Unavailable
from kvpool_operator.journal import Unheard
from kvpool_operator.last_read import LastRead
from kvpool_operator.loop import Deps, Loops, back_off_s, operate, reconcile, run_pool
from kvpool_operator.manifests import annotation, is_terminating, is_true, name_of, seconds, uid_of
from kvpool_operator.refusals import Refusals
from kvpool_operator.settings import Settings
from pool_world import T0, router_state, worker_state
from store_cluster import Routers, StoreCluster, writes_of

QUICK = Settings(
    debounce_s=0.0,
    debounce_after_round_s=0.0,
    back_off_s=(0.001, 0.002),
    re_list_s=0.001,
    settle_s=0.01,
    refused_retry_s=0.02,
)


def deps(cluster, routers=None, settings=QUICK):
    return Deps(cluster, routers or Routers(), settings, clock=lambda: cluster.now, fresh_token=lambda: "token")


def knows_all(cluster, **facts):
    """A router that knows every engine."""
    return Routers(lambda: router_state([worker_state(name_of(pod), **facts) for pod in cluster.pods()]))


def condition(cluster, kind):
    found = cluster.pool().get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind), {"status": None, "reason": None, "message": ""})


async def serving_pool(replicas=2, routers=None, **spec):
    """A pool whose engines and router are all ready, at rest."""
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=replicas, **spec)
    told = deps(cluster, routers or knows_all(cluster))
    await reconcile(told, ref)
    cluster.router_runs()
    for pod in cluster.pods():
        cluster.kubelet_reports(pod, ContainersReady="True", Ready="True")
    for _ in range(3):
        await reconcile(told, ref)
    return cluster, ref, told


async def test_a_new_pool_gets_its_children_its_engines_and_its_status_in_one_round():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=3)
    assert await reconcile(deps(cluster), ref) == T0 + QUICK.settle_s
    assert len(cluster.pods()) == 3
    assert {"Secret", "Deployment", "Service", "NetworkPolicy"} <= {kind for kind, *_ in cluster.writes}
    assert condition(cluster, "Ready")["status"] == "False"
    assert len(cluster.pool()["status"]["conditions"]) == len(ConditionType)


async def test_a_pool_comes_to_serve_and_then_writes_nothing_more():
    cluster, ref, told = await serving_pool()
    assert condition(cluster, "Ready")["message"] == "2 of 2 engines are routable"
    assert all(is_true(pod, "kvpool.dev/routable") for pod in cluster.pods())
    cluster.writes.clear()
    for _ in range(5):
        cluster.now += 400
        await reconcile(told, ref)
    assert cluster.writes == []


def phases_of_a_crash(restarts):
    """What a kubelet says of a container from one end to the next."""
    over = {"terminated": {"reason": "Error", "exitCode": 1, "message": "ValueError: the moon is in the wrong phase"}}
    held = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off {20 * restarts}s restarting"}}
    for state, count in ((over, restarts), (held, restarts), ({"running": {}}, restarts + 1)):
        yield {"name": "engine", "ready": False, "restartCount": count, "state": state, "lastState": over}


def phases_of_a_pull(tries):
    why = f"failed to resolve image: dial tcp 10.0.0.1:{40000 + tries}->10.0.0.2:443: i/o timeout"
    for code, words in (
        ("ErrImagePull", why),
        ("ImagePullBackOff", f'Back-off pulling image "i": ErrImagePull: {why}'),
    ):
        state = {"waiting": {"reason": code, "message": words}}
        yield {"name": "engine", "ready": False, "restartCount": 0, "state": state}


@pytest.mark.parametrize("phases", [phases_of_a_crash, phases_of_a_pull])
async def test_an_engine_that_fails_again_and_again_is_written_about_once(phases):
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    told = deps(cluster, knows_all(cluster))
    await reconcile(told, ref)
    cluster.router_runs()
    for cycle in range(3, 9):
        for status in phases(cycle):
            cluster.now += 100
            (pod,) = cluster.pods()
            cluster.write_status(pod, {"phase": "Running", "containerStatuses": [status]})
            await reconcile(told, ref)
        if cycle == 3:
            assert condition(cluster, "Ready")["reason"] in ("CrashLoop", "ImagePullBackOff")
            cluster.writes.clear()
    assert cluster.writes == []


async def test_a_smaller_number_drains_one_engine_and_then_deletes_it():
    draining = []
    cluster = StoreCluster()
    routers = Routers(
        lambda: router_state([worker_state(name_of(p), draining=name_of(p) in draining) for p in cluster.pods()])
    )
    ref = await cluster.user_applies(replicas=2)
    told = deps(cluster, routers)
    await reconcile(told, ref)
    cluster.router_runs()
    for pod in cluster.pods():
        cluster.kubelet_reports(pod, ContainersReady="True", Ready="True")
    await reconcile(told, ref)
    await cluster.user_applies(replicas=1)
    await reconcile(told, ref)
    (leaving,) = [pod for pod in cluster.pods() if annotation(pod, "kvpool.dev/draining")]
    await reconcile(told, ref)
    assert not any(map(is_terminating, cluster.pods()))
    draining.append(name_of(leaving))
    await reconcile(told, ref)
    assert [name_of(pod) for pod in cluster.pods() if is_terminating(pod)] == draining


async def test_what_the_cluster_refuses_is_told_and_tried_again_soon():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    cluster.refusing = writes_of("Pod", Refused("exceeded quota: gpus"))
    assert await reconcile(deps(cluster), ref) == T0 + QUICK.refused_retry_s
    cluster.router_runs()
    await reconcile(deps(cluster, Routers(router_state([]))), ref)
    assert condition(cluster, "WorkloadReady")["reason"] == "QuotaExceeded"
    assert condition(cluster, "Accepted")["status"] == "True"


async def test_a_quota_is_asked_ever_more_seldom_and_status_stands_in_between():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1000)
    tried, refuse = [], writes_of("Pod", Refused("exceeded quota: few"))

    def refusing(target):
        if error := refuse(target):
            tried.append(cluster.now - T0)
        return error

    cluster.refusing = refusing
    settings = Settings()
    told, refusals = deps(cluster, settings=settings), Refusals(settings.refused_retry_s, settings.refused_retry_most_s)
    again = await reconcile(told, ref, refusals=refusals)
    while cluster.now < T0 + 1000:
        cluster.now = min(again, cluster.now + 7)
        again = await reconcile(told, ref, refusals=refusals)
        assert condition(cluster, "WorkloadReady")["reason"] == "QuotaExceeded"
        if cluster.now > T0 + 7:
            assert cluster.writes == []
        cluster.writes.clear()
    assert tried == [0, 15, 45, 105, 225, 465, 765]
    await cluster.user_applies(replicas=999)
    await reconcile(told, ref, refusals=refusals)
    assert len(tried) == 8


async def test_room_that_an_engine_leaves_is_used_at_once():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=3)

    def refusing(target):
        is_pod = isinstance(target, dict) and target["kind"] == "Pod"
        return Refused("exceeded quota: few") if is_pod and len(cluster.pods()) >= 2 else None

    cluster.refusing = refusing
    told, refusals = deps(cluster), Refusals(15.0, 300.0)
    for _ in range(3):
        await reconcile(told, ref, refusals=refusals)
    gone = cluster.pods()[0]
    cluster.store.delete(Ref(seam.POD, "default", name_of(gone)), uid=uid_of(gone), grace_s=0)
    await reconcile(told, ref, refusals=refusals)
    assert len(cluster.pods()) == 2


async def test_a_pool_that_is_being_deleted_gets_nothing_new():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    held = {"apiVersion": "kvpool.dev/v1alpha1", "kind": "InferencePool"}
    meta = {"name": "qwen", "namespace": "default", "finalizers": ["test/held"]}
    cluster.store.apply({**held, "metadata": meta}, manager="test", force=True)
    cluster.store.delete(ref, uid=uid_of(cluster.pool()))
    assert await reconcile(deps(cluster), ref) is None
    assert cluster.writes == []


async def test_a_pool_of_a_newer_release_is_told_what_to_do_and_left_alone(monkeypatch):
    cluster, ref, told = await serving_pool()
    newer = cluster.pool()
    newer["spec"]["unheard"] = 1
    real = cluster.get

    async def get(wanted):
        return newer if wanted == ref else await real(wanted)

    monkeypatch.setattr(cluster, "get", get)
    cluster.writes.clear()
    assert await reconcile(told, ref) is None
    assert condition(cluster, "Accepted")["reason"] == "NotUnderstood"
    assert "spec.unheard" in condition(cluster, "Ready")["message"]
    assert {kind for kind, *_ in cluster.writes} == {"InferencePool", "Event"}


async def test_a_round_that_fails_is_repeated_and_a_pool_that_is_gone_ends_its_loop(caplog):
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=0)
    troubles = [ZeroDivisionError("a fault of ours"), Unavailable("down"), Unavailable("down")]
    cluster.refusing = lambda target: troubles.pop() if troubles else None
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(run_pool(deps(cluster), ref, asyncio.Event()))
        await eventually(lambda: condition(cluster, "Accepted")["status"] == "True")
    assert [record.getMessage() for record in caplog.records] == [
        "qwen: down; trying again",
        "qwen: down; trying again",
        "qwen: a round failed; trying again",
    ]
    cluster.store.delete(ref, uid=uid_of(cluster.pool()))
    async with asyncio.timeout(10):
        await running


@pytest.mark.parametrize(("error", "heeds_news"), [(Unavailable("down"), True), (ZeroDivisionError(), False)])
async def test_news_ends_the_back_off_where_the_api_server_was_away_and_only_there(error, heeds_news):
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    told, kept = journaled(cluster, back_off_s=(60.0,), least_back_off_s=0.02)
    cluster.refusing = lambda target: error
    wake = asyncio.Event()
    running = asyncio.create_task(run_pool(told, ref, wake))
    await eventually(lambda: kept.rounds == [error])
    cluster.refusing = lambda target: None
    wake.set()
    if heeds_news:
        await eventually(lambda: len(engines(cluster)) == 1, within_s=5)
    else:
        await rests(cluster)
        assert kept.rounds == [error]
    running.cancel()


async def test_a_wake_up_ends_the_rest():
    cluster, ref, told = await serving_pool(replicas=1)
    wake = asyncio.Event()
    wake.set()
    running = asyncio.create_task(run_pool(told, ref, wake))
    await eventually(lambda: not wake.is_set())
    await cluster.user_applies(replicas=2)
    wake.set()
    await eventually(lambda: len(cluster.pods()) == 2)
    running.cancel()


@asynccontextmanager
async def operated(cluster):
    operator = asyncio.create_task(operate(cluster, QUICK))
    try:
        yield
    finally:
        operator.cancel()
        await asyncio.gather(operator, return_exceptions=True)


async def rests(cluster):
    """Nobody has asked the cluster for anything for 50 ms: no round is under way."""
    calls = []
    cluster.refusing = calls.append
    begun = time.monotonic()
    while time.monotonic() - begun < 0.05:
        await asyncio.sleep(0.005)
        if calls:
            calls.clear()
            begun = time.monotonic()


def engines(cluster):
    return [pod for pod in cluster.pods() if not is_terminating(pod)]


async def test_pools_that_appear_change_and_come_back_are_run():
    cluster = StoreCluster()
    async with operated(cluster):
        ref = await cluster.user_applies(replicas=1)
        await eventually(lambda: len(engines(cluster)) == 1)
        await cluster.user_applies(replicas=3)
        await eventually(lambda: len(engines(cluster)) == 3)
        await rests(cluster)
        first = uid_of(cluster.pool())
        cluster.store.delete(ref, uid=first)
        for pod in cluster.pods():
            cluster.store.remove(Ref(seam.POD, "default", name_of(pod)), uid=uid_of(pod))
        await cluster.user_applies(replicas=2)
        await eventually(lambda: len(engines(cluster)) == 2)
        assert all(pod["metadata"]["ownerReferences"][0]["uid"] != first for pod in engines(cluster))


async def test_an_engine_that_is_taken_away_is_made_again_at_once():
    cluster = StoreCluster()
    async with operated(cluster):
        await cluster.user_applies(replicas=1)
        await eventually(lambda: len(engines(cluster)) == 1)
        (pod,) = cluster.pods()
        cluster.store.remove(Ref(seam.POD, "default", name_of(pod)), uid=uid_of(pod))
        await eventually(lambda: [uid_of(each) for each in engines(cluster)] not in ([], [uid_of(pod)]))


async def test_a_router_that_becomes_ready_wakes_its_pool_and_a_pod_of_nobody_wakes_none():
    cluster = StoreCluster()
    async with operated(cluster):
        await cluster.user_applies(replicas=0)
        await eventually(lambda: condition(cluster, "RouterReady")["status"] == "False")
        labels = {"kvpool.dev/pool": "unknown", "kvpool.dev/role": "engine"}
        meta = {"name": "stray", "namespace": "default", "labels": labels}
        stray = {"apiVersion": "v1", "kind": "Pod", "metadata": meta}
        cluster.store.apply({**stray, "spec": {"containers": [{"name": "c", "image": "i"}]}}, manager="m", force=True)
        cluster.router_runs()
        await eventually(lambda: condition(cluster, "RouterReady")["status"] == "True")


async def test_a_pool_made_anew_while_its_loop_ends_is_run_by_that_loop():
    cluster = StoreCluster()
    await cluster.user_applies(replicas=1)
    async with asyncio.TaskGroup() as tasks:
        loops = Loops(deps(cluster), tasks)
        gone_once = [NotFound("gone")]

        def refusing(target):
            if isinstance(target, Ref) and target.kind is seam.POOL and gone_once:
                loops._wake(target)  # what the watch does, between the answer and its arrival
                return gone_once.pop()
            return None

        cluster.refusing = refusing
        following = tasks.create_task(loops.follow(seam.POOL, {}))
        await eventually(lambda: len(engines(cluster)) == 1)
        cluster.store.delete(Ref(seam.POOL, "default", "qwen"), uid=uid_of(cluster.pool()))
        await eventually(lambda: not loops._wakes)
        following.cancel()


class Kept(Unheard):
    """A journal that counts."""

    def __init__(self):
        self.rounds, self.pools, self.actions, self.ready = [], [], [], []

    def pool_begins(self, pool):
        self.pools.append(("begins", pool.name))

    def pool_ends(self, pool):
        self.pools.append(("ends", pool.name))

    def round_ends(self, pool, seconds, error):
        self.rounds.append(error)

    def acted(self, done):
        self.actions += [type(each.action).__name__ for each in done]

    def reported(self, pool, status):
        self.ready += [each.status for each in status.conditions if each.type == "Ready"]


def journaled(cluster, **settings):
    kept = Kept()
    told = Deps(cluster, Routers(), replace(QUICK, **settings), clock=lambda: cluster.now, journal=kept)
    return told, kept


async def test_a_burst_of_wake_ups_costs_one_round_and_an_endless_one_does_not_hold_the_loop():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=0)
    told, kept = journaled(cluster, debounce_s=0.05, debounce_after_round_s=0.05, debounce_limit_s=0.3)
    wake = asyncio.Event()
    running = asyncio.create_task(run_pool(told, ref, wake))
    await rests(cluster)
    before = len(kept.rounds)

    async def burst(seconds):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            wake.set()
            await asyncio.sleep(0.002)

    await burst(0.15)
    await eventually(lambda: len(kept.rounds) > before)
    assert len(kept.rounds) == before + 1
    await burst(0.7)
    assert before + 2 < len(kept.rounds) <= before + 5
    running.cancel()


async def test_news_that_come_one_by_one_share_rounds_once_they_come_again_and_again():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=0)
    told, kept = journaled(cluster, debounce_s=0.01, debounce_after_round_s=0.3, debounce_limit_s=0.6)
    wake = asyncio.Event()
    running = asyncio.create_task(run_pool(told, ref, wake))
    await rests(cluster)
    before = len(kept.rounds)
    for _ in range(12):
        wake.set()
        await asyncio.sleep(0.1)  # further apart than the quiet after the first
    await eventually(lambda: len(kept.rounds) > before)
    assert len(kept.rounds) - before <= 4
    running.cancel()


async def test_a_journal_is_told_of_pools_rounds_actions_and_status():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    told, kept = journaled(cluster)
    troubles = [Unavailable("busy", retry_after_s=0.05)]
    cluster.refusing = lambda target: troubles.pop() if troubles else None
    begun = time.monotonic()
    running = asyncio.create_task(run_pool(told, ref, asyncio.Event()))
    await eventually(lambda: "CreateEngine" in kept.actions)
    assert time.monotonic() - begun >= 0.05
    assert isinstance(kept.rounds[0], Unavailable)
    cluster.store.delete(ref, uid=uid_of(cluster.pool()))
    await running
    assert kept.pools == [("begins", "qwen"), ("ends", "qwen")]
    assert kept.rounds[1] is None
    assert set(kept.ready) == {"False"}


async def test_missed_changes_wake_every_loop_and_stopping_ends_all():
    cluster = StoreCluster()
    await cluster.user_applies(replicas=0)
    told, kept = journaled(cluster)
    async with asyncio.TaskGroup() as tasks:
        loops = Loops(told, tasks)
        loops.changed(seam.POOL, Change("ADDED", cluster.pool()))
        await rests(cluster)
        before = len(kept.rounds)
        loops.wake_all()
        await eventually(lambda: len(kept.rounds) > before)
        loops.stop()
    assert kept.pools == [("begins", "qwen"), ("ends", "qwen")]


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_waits_are_spread(failures):
    waits = {back_off_s(Settings(), failures) for _ in range(50)}
    base = Settings().back_off_s[min(failures, 3)]
    assert len(waits) > 1
    assert all(0.7 * base <= wait <= 1.3 * base for wait in waits)


async def test_while_routers_doubt_an_engines_events_they_are_asked_again_soon():
    cluster, ref, sure = await serving_pool()
    doubting = deps(cluster, knows_all(cluster, events=EventState.DEGRADED, events_reason="no connection"))
    cluster.now += 100
    assert await reconcile(doubting, ref) <= cluster.now + QUICK.doubt_interval_s
    assert condition(cluster, "KVEventsFlowing")["status"] == "False"
    cluster.now += QUICK.doubt_interval_s
    assert await reconcile(sure, ref) > cluster.now + QUICK.doubt_interval_s
    assert condition(cluster, "KVEventsFlowing")["status"] == "True"


async def test_a_router_that_serves_and_stays_mute_is_asked_again_soon_and_told_until_it_answers():
    mute, calm = Routers(), replace(QUICK, silence_interval_s=3.0)
    cluster, ref, told = await serving_pool()
    told = replace(told, settings=calm, routers=mute)
    for status in ("False", "True"):
        assert await reconcile(told, ref) == T0 + 3.0
        assert condition(cluster, "RouterReady")["reason"] == "RoutersSilent"
        assert (condition(cluster, "Degraded")["status"], condition(cluster, "Ready")["status"]) == (status, "True")
    await reconcile(replace(told, routers=knows_all(cluster)), ref)
    assert condition(cluster, "Degraded")["status"] == "False"


async def test_routers_that_stay_apart_are_asked_again_soon_and_told_until_they_hear_each_other():
    cluster, ref, told = await serving_pool()
    cluster.router_runs("qwen-router-1")
    cluster.now += 100

    def hearing(*, heard):
        sibling = SiblingState(router="qwen-router-1", heard=heard, reason="", in_flight=0)
        knows = knows_all(cluster).answer().model_copy(update={"siblings": [sibling]})
        return replace(told, settings=replace(QUICK, silence_interval_s=3.0), routers=Routers(lambda: knows))

    for status in ("False", "True"):
        assert await reconcile(hearing(heard=False), ref) == cluster.now + 3.0
        assert condition(cluster, "RouterReady")["reason"] == "RoutersApart"
        assert (condition(cluster, "Degraded")["status"], condition(cluster, "Ready")["status"]) == (status, "True")
    assert await reconcile(hearing(heard=True), ref) > cluster.now + 3.0
    assert condition(cluster, "Degraded")["status"] == "False"


async def test_an_engine_that_no_scheduler_has_looked_at_is_looked_at_again_when_one_should_have():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    await reconcile(deps(cluster), ref)
    created = seconds(cluster.pods()[0]["metadata"]["creationTimestamp"])
    assert await reconcile(deps(cluster), ref) == created + 60
    cluster.now = created + 60
    await reconcile(deps(cluster), ref)
    assert condition(cluster, "Ready")["reason"] == "Unschedulable"


async def test_many_pools_that_appear_at_once_are_visited_one_after_the_other():
    cluster = StoreCluster()
    for number in range(12):
        await cluster.user_applies(f"p{number}", replicas=0)
    told, kept = journaled(cluster, rounds_at_once=2, rounds_per_s=25.0)
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        loops = Loops(told, tasks)
        for number in range(12):
            loops.changed(seam.POOL, Change("ADDED", cluster.pool(f"p{number}")))
        await eventually(lambda: len(kept.rounds) >= 12)
        assert time.monotonic() - begun >= 10 / 25.0
        loops.stop()


def reads_of(cluster, kind):
    """What is got of this kind from now on."""
    reads = []

    def note(target):
        if isinstance(target, Ref) and target.kind is kind:
            reads.append(target.name)

    cluster.refusing = note
    return reads


@pytest.mark.parametrize(("hears", "reads_at_rest"), [(True, 1), (False, 3)])
async def test_children_are_read_again_on_news_alone_by_whoever_hears_of_them(hears, reads_at_rest):
    cluster, ref, told = await serving_pool(replicas=1)
    told = replace(told, hears_of_children=hears)
    reads, last_read = reads_of(cluster, seam.SERVICE), LastRead(QUICK.resync_s)
    for _ in range(3):
        await reconcile(told, ref, last_read)
    assert len(reads) == reads_at_rest
    cluster.now += QUICK.resync_s
    await reconcile(told, ref, last_read)
    assert len(reads) == reads_at_rest + 1


async def test_a_child_that_goes_unheard_at_rest_comes_back_with_the_news_of_it():
    cluster, ref, told = await serving_pool(replicas=1)
    wake = asyncio.Event()
    running = asyncio.create_task(run_pool(replace(told, hears_of_children=True), ref, wake))
    await rests(cluster)
    service = cluster.store.get(Ref(seam.SERVICE, "default", "qwen"))
    cluster.store.delete(Ref(seam.SERVICE, "default", "qwen"), uid=uid_of(service))
    cluster.writes.clear()
    wake.set()
    await eventually(lambda: ("Service", "qwen", None) in cluster.writes)
    running.cancel()


async def test_the_secret_of_a_deleted_pool_is_taken_over_with_its_token_before_it_is_collected():
    cluster, ref, told = await serving_pool(replicas=1)
    secret = Ref(seam.SECRET, "default", "qwen-admin")
    left = cluster.store.get(secret)
    cluster.store.delete(ref, uid=uid_of(cluster.pool()))
    await cluster.user_applies(replicas=1)
    owners = left["metadata"]["ownerReferences"]
    meta = {key: left["metadata"][key] for key in ("name", "namespace", "labels")}
    late = {**{key: left[key] for key in ("apiVersion", "kind", "type", "data")}, "metadata": meta}
    late["metadata"]["ownerReferences"] = owners
    cluster.store.apply(late, manager="kvpool-operator", force=True)
    await reconcile(told, ref)
    taken = cluster.store.get(secret)
    assert [each["uid"] for each in taken["metadata"]["ownerReferences"]] == [uid_of(cluster.pool())]
    assert taken["data"] == left["data"]
    assert uid_of(cluster.pool()) != owners[0]["uid"]

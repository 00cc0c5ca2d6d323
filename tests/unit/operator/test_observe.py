"""What is read of a pool's world, and what is made of it."""

import base64

import pytest
from cluster_contract import event_about
from kvpool_api import labels
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import NotFound, Ref, Refused, Unavailable
from kvpool_operator.manifests import name_of, port_named, rfc3339, seconds
from kvpool_operator.observe import NotUnderstood, engine_of, observe, pool_of, router_of, status_as_read
from kvpool_operator.routers import TokenRefused
from pool_world import SETTINGS, T0, pod_manifest, pool, router_state
from store_cluster import Routers, StoreCluster

NOTHING = Ref(seam.POOL, "default", "nothing")


def pod(**status):
    return pod_manifest(engine_pod(pool(), 3, "1"), "u3", **status)


def conditions(**by_name):
    """By name, a status or (status, reason)."""
    told = {name: told if isinstance(told, tuple) else (told, None) for name, told in by_name.items()}
    return [
        {"type": name, "status": status, "reason": reason, "lastTransitionTime": rfc3339(T0 + 5)}
        for name, (status, reason) in told.items()
    ]


def facts(**by_name):
    return engine_of(pod(conditions=conditions(**by_name)))


def test_a_new_engine_pod_says_what_it_is_and_nothing_of_its_state():
    engine = engine_of(pod())
    assert (engine.slot, engine.uid, engine.created_at, engine.builder_revision) == (3, "u3", T0, "1")
    assert engine.template_hash == engine.name.split("-")[1]
    assert engine.kept
    assert not engine.available
    assert (engine.failed_at, engine.draining_since, engine.containers_ready_since) == (None, None, None)


def test_a_pod_without_our_labels_has_no_slot():
    assert engine_of({"metadata": {"name": "stranger"}}).slot == -1


def test_an_engine_is_available_with_ready_containers_and_the_gate_passed():
    gate = {labels.ROUTABLE_GATE: "True"}
    engine = facts(ContainersReady="True", Ready="True", **gate)
    assert engine.containers_ready_since == T0 + 5
    assert engine.available
    assert not facts(ContainersReady="True", Ready=("False", "ReadinessGatesNotReady")).available
    assert not facts(ContainersReady="False", Ready=("False", "ContainersNotReady"), **gate).available


def test_a_kubelet_that_has_not_looked_at_the_gate_yet_is_no_lost_node():
    gate = {labels.ROUTABLE_GATE: "True"}
    assert facts(ContainersReady="True", Ready=("False", "ReadinessGatesNotReady"), **gate).available
    assert not facts(ContainersReady="True", Ready=("False", None), **gate).available
    assert facts(ContainersReady="True", Ready="Unknown", **gate).lost_contact


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_for_good_has_failed(phase):
    ended = engine_of(pod(phase=phase, conditions=conditions(Ready="False")))
    assert ended.failed_at == T0 + 5
    assert not ended.active
    assert engine_of(pod(phase=phase)).failed_at == T0


def test_a_pod_that_its_lost_node_has_to_give_up_has_failed():
    assert facts(DisruptionTarget="True", Ready="Unknown").failed_at == T0 + 5
    assert facts(DisruptionTarget="True", Ready="True").failed_at is None


def test_the_annotation_says_since_when_an_engine_drains():
    leaving = pod()
    leaving["metadata"]["annotations"][labels.DRAINING] = rfc3339(T0 + 9)
    assert engine_of(leaving).draining_since == T0 + 9


def test_a_router_runs_while_its_container_does():
    def runs(state):
        statuses = [{"name": "sidecar", "state": {"running": {}}}, {"name": "router", "state": state}]
        return router_of({"metadata": {"name": "r"}, "status": {"containerStatuses": statuses}}).running

    assert runs({"running": {}})
    assert not runs({"waiting": {"reason": "CrashLoopBackOff"}})
    assert not router_of({"metadata": {"name": "r"}}).running


@pytest.mark.parametrize(
    ("ready", "changed_s", "been"),
    [("True", 0, True), ("False", 0, False), ("False", 5, False), ("False", 6, True), (None, 0, False)],
)
def test_a_router_has_been_ready_where_that_has_changed_since_its_process_began(ready, changed_s, been):
    status = {"containerStatuses": [{"name": "router", "state": {"running": {"startedAt": rfc3339(T0 + 5)}}}]}
    if ready is not None:
        changed = {"type": "Ready", "status": ready, "lastTransitionTime": rfc3339(T0 + changed_s)}
        status["conditions"] = [changed]
    assert router_of({"metadata": {"name": "r"}, "status": status}).has_been_ready is been
    waiting = {"containerStatuses": [], "conditions": status.get("conditions", [])}
    assert router_of({"metadata": {"name": "r"}, "status": waiting}).has_been_ready is (ready == "True")


def test_a_port_is_found_by_its_name():
    assert port_named({"spec": {"containers": [{"ports": [{"name": "admin", "containerPort": 9}]}]}}, "admin", 1) == 9
    assert port_named({}, "admin", 1) == 1
    assert port_named({"spec": {"containers": [{"ports": [{"name": "admin"}]}]}}, "admin", 1) == 1


def test_times_survive_the_way_there_and_back():
    assert seconds(rfc3339(T0)) == T0
    assert seconds("yesterday") is None
    assert seconds(None) is None


def test_a_spec_with_a_field_that_this_release_does_not_know_is_not_understood():
    manifest = {"metadata": {"name": "qwen"}, "spec": {"model": {"name": "m", "unheard": 1}}}
    with pytest.raises(NotUnderstood, match=r"^spec\.model\.unheard: .*; upgrade the operator") as raised:
        pool_of(manifest)
    assert raised.value.pool is manifest


def test_a_status_that_another_release_has_written_is_read_as_none():
    manifest = {"metadata": {"name": "qwen"}, "spec": {"model": {"name": "m"}}, "status": {"unheard": 1}}
    assert pool_of(manifest).status.replicas == 0
    assert status_as_read({"status": {"replicas": 3}}).replicas == 3


async def test_an_empty_world_is_seen_as_it_is():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=2)
    seen = await observe(cluster, Routers(), ref, SETTINGS)
    assert (seen.pool.spec.replicas, seen.engines, seen.routers, dict(seen.children), seen.token) == (
        2,
        (),
        (),
        {},
        None,
    )


async def test_engines_of_a_deleted_pool_are_not_those_of_the_new_one_with_its_name():
    cluster = StoreCluster()
    ref = await cluster.user_applies(replicas=1)
    mine = engine_pod((await observe(cluster, Routers(), ref, SETTINGS)).pool, 0, "1")
    (owner,) = mine["metadata"]["ownerReferences"]
    old = {**mine, "metadata": {**mine["metadata"], "name": "old", "ownerReferences": [{**owner, "uid": "gone"}]}}
    for manifest in (mine, old):
        await cluster.create(manifest, manager="test")
    assert [each.name for each in (await observe(cluster, Routers(), ref, SETTINGS)).engines] == [
        mine["metadata"]["name"]
    ]


async def test_a_pool_that_is_gone_is_not_found():
    with pytest.raises(NotFound):
        await observe(StoreCluster(), Routers(), NOTHING, SETTINGS)


async def test_a_cluster_that_cannot_answer_is_no_empty_cluster():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    cluster.refusing = lambda target: Unavailable("down") if target is seam.POD else None
    with pytest.raises(Unavailable):
        await observe(cluster, Routers(), ref, SETTINGS)


ECHO = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
LONG_LOG = f"ValueError: the cause\n{ECHO}\n"


async def crashed(**ended):
    """A cluster with one engine that has ended so."""
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    made = await cluster.apply(engine_pod(pool_of(await cluster.get(ref)), 0, "1"), manager="m", force=True)
    cluster.logs = {name_of(made): LONG_LOG}
    status = {"name": "engine", "ready": False, "restartCount": 1, "lastState": {"terminated": ended}}
    cluster.write_status(made, {"phase": "Running", "containerStatuses": [status]})
    return cluster, ref


@pytest.mark.parametrize(
    ("ended", "log"),
    [
        ({"exitCode": 1, "message": ECHO}, LONG_LOG.strip()),
        ({"exitCode": 1}, LONG_LOG.strip()),
        ({"exitCode": 1, "message": "ValueError: told already"}, ""),
        ({"exitCode": 137, "message": ECHO}, ""),
        ({"exitCode": 1, "reason": "OOMKilled"}, ""),
        ({"exitCode": 128, "reason": "StartError"}, ""),
        ({"exitCode": 0}, LONG_LOG.strip()),
    ],
)
async def test_the_log_of_a_crash_is_read_where_the_pods_status_does_not_tell_the_cause(ended, log):
    cluster, ref = await crashed(**ended)
    (engine,) = (await observe(cluster, Routers(), ref, SETTINGS)).engines
    assert engine.log == log


@pytest.mark.parametrize("kind", ["containerStatuses", "initContainerStatuses"])
@pytest.mark.parametrize(("message", "log_of"), [("", "licence"), ("told in its status", "")])
async def test_the_log_of_a_container_beside_the_engine_is_read_where_its_status_says_nothing(kind, message, log_of):
    cluster, ref = await crashed(exitCode=0)
    (made,) = cluster.pods()
    cluster.logs = {name_of(made): "no licence"}
    ended = {"terminated": {"exitCode": 3, "message": message}}
    cluster.write_status(made, {"phase": "Running", kind: [{"name": "licence", "ready": False, "state": ended}]})
    (engine,) = (await observe(cluster, Routers(), ref, SETTINGS)).engines
    assert (engine.log_of, engine.log) == (log_of, "no licence" if log_of else "")


async def test_a_log_that_cannot_be_had_stops_nothing():
    cluster, ref = await crashed(exitCode=1, message=ECHO)
    cluster.refusing = lambda target: (
        Refused("pods/log: forbidden") if getattr(target, "kind", None) is seam.POD else None
    )
    (engine,) = (await observe(cluster, Routers(), ref, SETTINGS)).engines
    assert engine.log == ""


class WantsAnother:
    """Routers with a token of their own."""

    async def state(self, host, port, token):
        raise TokenRefused("it answered 401")


def secret(value):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "qwen-admin", "namespace": "default", "labels": {"kvpool.dev/pool": "qwen"}},
        "data": {"token": value},
    }


async def test_routers_are_asked_at_their_named_port_with_the_token():
    cluster, routers = StoreCluster(), Routers(router_state([]))
    ref = await cluster.user_applies()
    cluster.router_runs()
    await cluster.apply(secret(base64.b64encode(b"token").decode()), manager="m", force=True)
    (router,) = (await observe(cluster, routers, ref, SETTINGS)).routers
    assert routers.asked == [("10.0.0.9", 8101, "token")]
    assert router.state is routers.answer
    assert (router.ready, router.running, router.silent) == (True, True, "")


@pytest.mark.parametrize("value", ["no base64", "", base64.b64encode(b"\xff").decode()])
async def test_a_secret_without_a_usable_token_is_as_good_as_none(value):
    cluster, routers = StoreCluster(), Routers(router_state([]))
    ref = await cluster.user_applies()
    cluster.router_runs()
    await cluster.apply(secret(value), manager="m", force=True)
    seen = await observe(cluster, routers, ref, SETTINGS)
    assert seen.token is None
    assert routers.asked == []
    assert [router.silent for router in seen.routers] == ["the Secret qwen-admin holds no token to ask it with yet"]


async def test_a_router_that_wants_another_token_says_which_secret_and_the_mend():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    cluster.router_runs()
    await cluster.apply(secret(base64.b64encode(b"token").decode()), manager="m", force=True)
    (router,) = (await observe(cluster, WantsAnother(), ref, SETTINGS)).routers
    assert router.silent == "it answered 401, so it does not know the token of the Secret qwen-admin"
    assert router.mend.endswith("restart them (kubectl rollout restart deployment qwen-router)")


async def test_a_router_that_does_not_answer_is_silent_and_one_that_was_evicted_is_none():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    await cluster.apply(secret(base64.b64encode(b"token").decode()), manager="m", force=True)
    cluster.router_runs()
    cluster.router_runs("evicted")
    meta = {"name": "evicted", "namespace": "default"}
    evicted = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": "Failed"}}
    cluster.store.apply(evicted, manager="evictor", force=True, subresource="status")
    (router,) = (await observe(cluster, Routers(), ref, SETTINGS)).routers
    assert (router.name, router.silent, router.state) == ("qwen-router-0", "no answer", None)


async def test_what_a_container_waits_for_is_read_from_events_and_only_then():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    made = await cluster.apply(engine_pod(pool_of(await cluster.get(ref)), 0, "1"), manager="m", force=True)
    event = event_about(made, "e", uid=made["metadata"]["uid"], time="2026-01-01T10:00:00Z")
    await cluster.apply(event, manager="kubelet", force=True)
    for state, told in (({"waiting": {"reason": "ContainerCreating"}}, "words of e"), ({"running": {}}, None)):
        cluster.write_status(made, {"phase": "Pending", "containerStatuses": [{"name": "engine", "state": state}]})
        (engine,) = (await observe(cluster, Routers(), ref, SETTINGS)).engines
        assert engine.last_event.get("message") == told


async def test_events_that_cannot_be_had_stop_nothing():
    cluster = StoreCluster()
    ref = await cluster.user_applies()
    made = await cluster.apply(engine_pod(pool_of(await cluster.get(ref)), 0, "1"), manager="m", force=True)
    waits = {"name": "engine", "state": {"waiting": {"reason": "ContainerCreating"}}}
    cluster.write_status(made, {"phase": "Pending", "containerStatuses": [waits]})
    cluster.refusing = lambda target: Refused("events: forbidden") if target is seam.EVENT else None
    (engine,) = (await observe(cluster, Routers(), ref, SETTINGS)).engines
    assert engine.last_event == {}

"""Causes in the words of whoever knows them."""

from dataclasses import replace

import pytest
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.manifests import rfc3339
from kvpool_operator.observe import engine_of
from kvpool_operator.plan.actions import CreateEngine, DeleteEngine, Done, because
from kvpool_operator.status.causes import (
    ContainerLog,
    cause,
    deepest,
    waits_without_a_word,
    whose_log_is_needed,
    why_unwell,
)
from kvpool_operator.status.refused import is_over_quota, pods_refused, refusal_of_engines
from pool_world import T0, pod_manifest, pool

WHY = because("Because", "")


def unwell(engine, now=T0):
    return why_unwell(engine, now)


def pod(*containers, **status):
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": list(containers), **status}}


def waiting(reason, message="words", name="engine"):
    return {"name": name, "ready": False, "state": {"waiting": {"reason": reason, "message": message}}}


def ended(message="", *, reason="Error", code=1, restarts=3, name="engine", last=True):
    state = {"terminated": {"reason": reason, "exitCode": code, "message": message}}
    told = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": state} if last else {"state": state}
    return {"name": name, "ready": False, "restartCount": restarts, **told}


def test_a_pod_that_fits_nowhere_says_so_in_the_schedulers_words():
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unscheduled = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    mend = "add nodes, or ask for less (spec.resources)"
    assert cause(unscheduled).code == "Unschedulable"
    assert cause(unscheduled).message.startswith(f"p: {words[:-1]}; {mend}")
    assert cause(unscheduled, main="router").message.endswith("; add nodes, or ask for less: spec.router.resources")


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (
            '0/1 nodes are available: persistentvolumeclaim "weights" not found. not found',
            "FailedMount",
            'persistentvolumeclaim "weights" not found; make what is missing, or mend its name in the spec',
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            "Unschedulable",
            "Claims; see why the claim is not bound (kubectl describe pvc), and name a StorageClass",
        ),
    ],
)
def test_a_claim_that_is_missing_or_waits_has_a_mend_of_its_own(said, code, told):
    found = cause(pod(conditions=[{"type": "PodScheduled", "status": "False", "message": said}]))
    assert found.code == code
    assert told in found.message


def test_a_pod_that_no_scheduler_looks_at_says_so_after_a_minute():
    waits = replace(engine(), pod={**engine().pod, "spec": {"schedulerName": "gpu-batch"}})
    assert unwell(waits, T0 + 59) is None
    found = unwell(waits, T0 + 60)
    assert (found.code, found.message) == (
        "Unschedulable",
        f"{waits.name}: no scheduler has looked at it in 60 s; "
        "see that gpu-batch runs, or name another in spec.podTemplate (schedulerName)",
    )
    assert "default-scheduler runs" in unwell(engine(), T0 + 60).message
    placed = replace(engine(), pod={**engine().pod, "spec": {"nodeName": "n"}})
    seen = engine(conditions=[{"type": "PodScheduled", "status": "True"}])
    for each in (placed, seen, replace(engine(), draining_since=T0)):
        assert unwell(each, T0 + 3600) is None


@pytest.mark.parametrize(
    "code",
    ["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"],
)
def test_a_container_that_cannot_start_says_what_is_missing(code):
    found = cause(pod(waiting(code, 'secret "hf" not found')))
    assert found.code == code
    assert found.message.startswith('p: secret "hf" not found')


def test_a_pod_that_starts_as_it_should_has_no_cause():
    assert cause(pod()) is None
    assert cause(pod(waiting("ContainerCreating", ""))) is None
    assert cause(pod({"name": "engine", "ready": False, "state": {"running": {}}})) is None


def test_a_container_that_is_ready_again_is_not_blamed_for_its_past():
    assert cause(pod({**ended("CUDA out of memory"), "ready": True})) is None


def test_a_killed_process_is_not_blamed_for_what_its_log_said_before():
    found = cause(pod(ended("CUDA out of memory", code=137)))
    assert found.code == "Killed"
    assert "SIGKILL" in found.message


def test_the_kernels_kill_and_the_gpus_lack_of_memory_are_told_apart():
    assert cause(pod(ended("CUDA out of memory", reason="OOMKilled", code=137))).code == "OOMKilled"
    found = cause(pod(ended("x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\nINFO:     bye")))
    assert found.code == "CudaOutOfMemory"
    assert found.message.startswith("p: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB; ")


def test_a_cause_that_is_known_is_told_with_its_mend():
    found = cause(pod(ended("before\nValueError: No available memory for the cache blocks. Try\nINFO:     bye")))
    assert found.code == "CudaOutOfMemory"
    assert found.message.startswith("p: ValueError: No available memory for the cache blocks. Try; give the engine ")


def test_an_engine_that_crashes_for_a_reason_of_its_own_says_its_last_error():
    found = cause(pod(ended("RuntimeError: the cause\nINFO:     bye")))
    told = "p: ended with exit code 1, restarted more than twice: RuntimeError: the cause"
    assert (found.code, found.message) == ("CrashLoop", told)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "not restarted yet"), (1, "restarted once"), (2, "restarted twice"), (40, "restarted more than twice")],
)
def test_how_often_it_was_restarted_is_told(count, words):
    assert words in cause(pod(ended("Oops: x", restarts=count))).message
    assert words in cause(pod(ended(code=137, restarts=count))).message


PULL = 'failed to resolve image: Head "https://r/v2/i": dial tcp 10.0.0.1:{port}->10.0.0.2:443: connection refused'
START = 'failed to create containerd task: {id}: exec: "vllm": executable file not found in $PATH'
NEVER_RAN = {"terminated": {"reason": "StartError", "exitCode": 128, "message": START.format(id="a" * 64)}}
CYCLES = {
    "a pull": [
        waiting("ErrImagePull", PULL.format(port=40001)),
        waiting("ImagePullBackOff", 'Back-off pulling image "r/i@sha256:0": ErrImagePull: ' + PULL.format(port=40002)),
        waiting("ErrImagePull", "rpc error: code = Unavailable desc = " + PULL.format(port=40003)),
    ],
    "a crash": [
        ended("ValueError: x", last=False),
        ended("ValueError: x", restarts=3),
        {**ended("ValueError: x", restarts=4), "state": {"running": {}}},
        {**ended("ValueError: x", restarts=5, last=False), "lastState": {"terminated": {"exitCode": 1}}},
    ],
    "a start": [
        waiting("RunContainerError", START.format(id="b" * 64)),
        {**waiting("RunContainerError", START.format(id="c" * 64)), "lastState": NEVER_RAN, "restartCount": 3},
        {**waiting("CrashLoopBackOff", "back-off 5m0s"), "lastState": NEVER_RAN, "restartCount": 4},
        {"name": "engine", "ready": False, "restartCount": 5, "state": NEVER_RAN},
    ],
}


@pytest.mark.parametrize("phases", CYCLES.values(), ids=CYCLES)
def test_every_phase_of_a_failure_that_comes_again_and_again_has_the_same_cause(phases):
    first, *others = [cause(pod(phase)) for phase in phases]
    assert first is not None
    assert others == [first] * len(others)


def test_what_names_the_image_stays_in_the_words():
    image = "r/i@sha256:" + "0" * 64
    assert image in cause(pod(waiting("ErrImagePull", f'failed to pull "{image}": not found'))).message


def test_the_log_goes_before_the_last_words_that_the_pod_holds():
    engine_log = "ValueError: the cause\nRuntimeError: Engine core initialization failed. See root cause above."
    crashed = pod(ended("RuntimeError: Engine core initialization failed. See root cause above."))
    assert cause(crashed, log=ContainerLog("engine", engine_log)).message.endswith("ValueError: the cause")
    assert cause(crashed).message.endswith("See root cause above.; its log tells the cause further above")
    beside = pod(ended("KeyError: x", name="sidecar"))
    assert cause(beside, log=ContainerLog("engine", engine_log)).message.endswith("KeyError: x")
    assert cause(beside, log=ContainerLog("sidecar", "loading\nno licence")).message.endswith(": no licence")


def test_a_volume_that_is_not_there_is_told_where_the_kubelet_says_so():
    found = cause(pod(waiting("ContainerCreating", 'volume "model": there is no /models on this machine')))
    assert (found.code, found.message.partition(";")[0]) == (
        "FailedMount",
        'p: volume "model": there is no /models on this machine',
    )


def test_a_cause_that_somebody_has_to_mend_goes_before_one_that_passes():
    killed, refused, lost = because("Killed", ""), because("ModelNotFound", ""), because("NodeLost", "")
    assert deepest([killed, refused, lost]) is refused
    assert deepest([killed, lost]) is killed
    assert deepest([]) is None


def test_a_container_beside_the_engine_is_named():
    assert cause(pod(ended(name="sidecar"))).message.startswith("p (sidecar): ")
    done = {"name": "fetch", "ready": True, "state": {"terminated": {"exitCode": 0}}}
    failed = ended(name="fetch", last=False)
    assert cause(pod(waiting("PodInitializing"), initContainerStatuses=[done])) is None
    assert cause(pod(waiting("PodInitializing"), initContainerStatuses=[failed])).message.startswith("p (fetch): ")


def engine(**status):
    return engine_of(pod_manifest(engine_pod(pool(), 0, "1"), "u", **status))


def died_after(seconds, **facts):
    """An engine whose process lived so long; its startup probe allows 3600 s."""
    times = {"startedAt": rfc3339(T0), "finishedAt": rfc3339(T0 + seconds)}
    last = {"terminated": {"exitCode": 143, **times}}
    return engine(containerStatuses=[{"name": "engine", "ready": False, "restartCount": 1, "lastState": last, **facts}])


def test_an_engine_that_did_not_start_in_time_is_not_blamed_for_its_exit_code():
    slow = unwell(died_after(3600))
    assert slow.code == "StartupTimeout"
    assert "not ready within 3600 s and ended for that, restarted once; raise spec.engine.startupTimeo" in slow.message
    assert unwell(died_after(3599)).code == "CrashLoop"
    assert unwell(replace(died_after(7200), routable=True)).code == "CrashLoop"
    assert unwell(died_after(3600, ready=True)) is None
    unprobed = died_after(3600)
    del unprobed.pod["spec"]["containers"][0]["startupProbe"]
    assert unwell(unprobed).code == "CrashLoop"


@pytest.mark.parametrize(("code", "age_s", "told"), [(3, 10, True), (3, 400, False), (0, 10, False)])
def test_what_fails_again_and_again_beside_an_engine_is_told_while_it_is_tried_again(code, age_s, told):
    tried = {"running": {"startedAt": rfc3339(T0 - age_s)}}
    last = {"terminated": {"exitCode": code, "message": "no licence"}}
    beside = {"name": "licence", "ready": True, "restartCount": 1, "state": tried, "lastState": last}
    starts = {"name": "engine", "ready": False, "state": {"running": {}}}
    found = unwell(engine(containerStatuses=[starts, beside]))
    assert (found is not None) == told
    wordless = {**beside, "lastState": {"terminated": {"exitCode": 3}}}
    assert whose_log_is_needed(pod(starts, wordless)) == "licence"
    assert whose_log_is_needed(pod(wordless)) is None
    if found is not None:
        assert (found.code, "(licence): ended with exit code 3, restarted once" in found.message) == ("CrashLoop", True)


def test_a_program_that_is_not_there_is_no_engine_that_was_too_slow():
    never = {"reason": "StartError", "exitCode": 128, "message": 'exec: "vllm": not found', "finishedAt": rfc3339(T0)}
    last = {"terminated": {**never, "startedAt": "1970-01-01T00:00:00Z"}}
    held = {"waiting": {"reason": "CrashLoopBackOff"}}
    found = unwell(engine(containerStatuses=[{"name": "engine", "ready": False, "state": held, "lastState": last}]))
    assert found.code == "RunContainerError"
    assert 'exec: "vllm": not found; check the image, and the command' in found.message


def test_a_lost_node_is_named():
    lost = replace(engine(), lost_contact=True)
    lost.pod["spec"]["nodeName"] = "gpu-7"
    assert unwell(lost).message == f"{lost.name}: its node gpu-7 has stopped answering"


def test_an_evicted_engine_says_why():
    evicted = engine(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert unwell(evicted).code == "Evicted"
    assert unwell(evicted).message.endswith("The node was low on resource: memory.")


def test_an_engine_that_ended_without_a_word_has_failed():
    assert unwell(engine(phase="Failed")).message.endswith("it ended for good")
    assert unwell(engine(phase="Failed", reason="no code")).code == "Failed"
    told = engine(phase="Failed", containerStatuses=[ended("ValueError: bad", last=False)])
    assert unwell(told).code == "CrashLoop"


def test_an_engine_that_starts_is_not_unwell():
    assert unwell(engine()) is None


def test_a_quota_is_no_fault_of_the_spec():
    words = 'pods "p" is forbidden: exceeded quota: gpus, requested: 2, used: 8, limited: 8'
    over = Done(CreateEngine("p", {}, WHY), words)
    assert is_over_quota(over)
    assert refusal_of_engines([over]).message.startswith(words)
    for other in (Done(CreateEngine("p", {}, WHY), None), Done(DeleteEngine("p", "u", WHY), words)):
        assert refusal_of_engines([other]) is None


def test_an_engine_that_is_refused_says_why_and_the_mend_where_there_is_one():
    words = 'pods "p" is forbidden: failed quota: few: must specify requests.cpu for: engine'
    refused = refusal_of_engines([Done(CreateEngine("p", {}, WHY), words)])
    mend = "or give the namespace a LimitRange with defaults"
    assert (refused.code, refused.message) == ("Refused", f"p: {words}; set these in spec.resources, {mend}")
    assert refusal_of_engines([Done(CreateEngine("p", {}, WHY), "no such class")]).message == "p: no such class"
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    told = pods_refused({"status": {"conditions": [failure]}})
    assert (told.code, told.message) == ("FailedCreate", f"{words}; set these in spec.router.resources, {mend}")


MAKING = {"name": "engine", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}


def starting(**event):
    return replace(engine(containerStatuses=[MAKING]), last_event=event)


def test_a_volume_that_cannot_be_mounted_is_told_by_an_event_alone():
    words = 'MountVolume.SetUp failed for volume "model": secret "hf" not found'
    found = unwell(starting(reason="FailedMount", type="Warning", message=words))
    assert found.code == "FailedMount"
    assert words in found.message
    assert found.message.endswith("make what is missing, or mend its name in the spec")


def test_an_event_that_is_no_complaint_is_no_cause():
    assert unwell(starting(reason="Pulling", message="Pulling image")) is None
    assert unwell(starting()) is None


@pytest.mark.parametrize(
    ("status", "needed"),
    [
        ({"containerStatuses": [MAKING]}, True),
        ({"initContainerStatuses": [{**MAKING, "name": "fetch"}]}, True),
        ({"containerStatuses": [waiting("PodInitializing", "")]}, True),
        ({"containerStatuses": [waiting("ContainerCreating", "words")]}, False),
        ({"containerStatuses": [{"name": "engine", "state": {"running": {}}}]}, False),
        ({}, False),
    ],
)
def test_events_are_read_only_where_status_has_no_word(status, needed):
    assert waits_without_a_word({"status": status}) is needed

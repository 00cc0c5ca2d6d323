"""Causes in the words of whoever knows them."""

from dataclasses import replace

import pytest
from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.observe import engine_of
from kvpool_operator.plan.actions import CreateEngine, DeleteEngine, Done, because
from kvpool_operator.status.causes import cause, is_over_quota, last_error_line, quota_refusal, why_unwell
from pool_world import pod_manifest, pool

WHY = because("Because", "")


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
    assert (cause(unscheduled).code, cause(unscheduled).message) == ("Unschedulable", f"p: {words}")


@pytest.mark.parametrize(
    "code",
    ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"],
)
def test_a_container_that_cannot_start_says_what_is_missing(code):
    found = cause(pod(waiting(code, 'secret "hf" not found')))
    assert found.code == code
    assert found.message.startswith('p: secret "hf" not found')


def test_a_pod_that_starts_as_it_should_has_no_cause():
    assert cause(pod()) is None
    assert cause(pod(waiting("ContainerCreating"))) is None
    assert cause(pod({"name": "engine", "ready": False, "state": {"running": {}}})) is None


def test_a_container_that_is_ready_again_is_not_blamed_for_its_past():
    assert cause(pod({**ended("CUDA out of memory"), "ready": True})) is None


def test_a_killed_process_is_not_blamed_for_what_its_log_said_before():
    found = cause(pod(ended("CUDA out of memory", code=137)))
    assert found.code == "Killed"
    assert "SIGKILL" in found.message


def test_the_kernels_kill_and_the_gpus_lack_of_memory_are_told_apart():
    assert cause(pod(ended("CUDA out of memory", reason="OOMKilled", code=137))).code == "OOMKilled"
    found = cause(pod(ended("x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\ny")))
    assert found.code == "CudaOutOfMemory"
    assert found.message.startswith("p: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB; ")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("CudaOutOfMemory", "ValueError: No available memory for the cache blocks. Try increasing it"),
        ("CudaOutOfMemory", "ValueError: Free memory on device (2/80 GiB) is less than desired GPU memory utilization"),
        ("KVCacheTooSmall", "ValueError: 16.0 GiB KV cache is needed, which is larger than the available KV cache"),
        ("ModelAccessDenied", "OSError: You are trying to access a gated repo."),
        ("ModelAccessDenied", "401 Client Error: Unauthorized for url"),
        ("ModelNotFound", "OSError: nope is not a local folder and is not a valid model identifier"),
        ("UnrecognizedArguments", "api_server.py: error: unrecognized arguments: --nope"),
    ],
)
def test_what_the_engine_said_last_is_understood_and_has_its_mend(code, words):
    found = cause(pod(ended(f"before\n{words}\nafter")))
    assert found.code == code
    assert found.message.startswith(f"p: {words}; ")


def test_an_engine_that_crashes_for_a_reason_of_its_own_says_its_last_error():
    words = "RuntimeError: the cause\nRuntimeError: Engine core initialization failed. See root cause above.\nbye"
    found = cause(pod(ended(words)))
    assert (found.code, found.message) == (
        "CrashLoop",
        "p: ended with exit code 1, 3 restarts: RuntimeError: the cause",
    )


def test_last_words_without_an_error_are_taken_as_they_are():
    assert last_error_line("one\ntwo\n") == "two"
    assert last_error_line("(EngineCore pid=7) ERROR 11-24 [core.py:1] zmq.error.ZMQError: in use") == (
        "zmq.error.ZMQError: in use"
    )
    assert last_error_line("  ") == "it said nothing"


def test_a_container_beside_the_engine_is_named():
    assert cause(pod(ended(name="sidecar"))).message.startswith("p (sidecar): ")
    done = {"name": "fetch", "ready": True, "state": {"terminated": {"exitCode": 0}}}
    failed = ended(name="fetch", last=False)
    assert cause(pod(waiting("PodInitializing"), initContainerStatuses=[done])) is None
    assert cause(pod(waiting("PodInitializing"), initContainerStatuses=[failed])).message.startswith("p (fetch): ")


def engine(**status):
    return engine_of(pod_manifest(engine_pod(pool(), 0, "1"), "u", **status))


def test_a_lost_node_is_named():
    lost = replace(engine(), lost_contact=True)
    lost.pod["spec"]["nodeName"] = "gpu-7"
    assert why_unwell(lost).message == f"{lost.name}: its node gpu-7 has stopped answering"


def test_an_evicted_engine_says_why():
    evicted = engine(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert why_unwell(evicted).code == "Evicted"
    assert why_unwell(evicted).message.endswith("The node was low on resource: memory.")


def test_an_engine_that_ended_without_a_word_has_failed():
    assert why_unwell(engine(phase="Failed")).message.endswith("it ended for good")
    assert why_unwell(engine(phase="Failed", reason="no code")).code == "Failed"
    told = engine(phase="Failed", containerStatuses=[ended("ValueError: bad", last=False)])
    assert why_unwell(told).code == "CrashLoop"


def test_an_engine_that_starts_is_not_unwell():
    assert why_unwell(engine()) is None


def test_a_quota_is_no_fault_of_the_spec():
    words = 'pods "p" is forbidden: exceeded quota: gpus, requested: 2, used: 8, limited: 8'
    over = Done(CreateEngine("p", {}, WHY), words)
    assert is_over_quota(over)
    assert quota_refusal([over]).message.startswith(words)
    for other in (Done(CreateEngine("p", {}, WHY), None), Done(DeleteEngine("p", "u", WHY), words)):
        assert quota_refusal([other]) is None

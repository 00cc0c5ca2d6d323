"""Why an engine or router is not ready: the cause, in the words of whoever knows it, and the mend."""

import re
from collections.abc import Iterator, Sequence

from kvpool_api.conditions import Reason
from kvpool_api.labels import ENGINE_CONTAINER
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at

from kvpool_operator.manifests import condition, container_statuses
from kvpool_operator.observed import Engine
from kvpool_operator.plan.actions import CreateEngine, Done, because

KILLED = 137
"""Exit code of a container that SIGKILL ended: 128 and the signal's number."""

_LOG_CAUSES: Sequence[tuple[str, re.Pattern[str], str]] = (
    (
        "CudaOutOfMemory",
        re.compile(
            r"CUDA out of memory|OutOfMemoryError|No available memory for the cache|less than desired GPU memory",
            re.IGNORECASE,
        ),
        "give the engine more GPU memory, or lower --gpu-memory-utilization or --max-model-len in spec.engine.args",
    ),
    (
        "KVCacheTooSmall",
        re.compile(r"KV cache is needed, which is larger|larger than the (?:available|maximum).{0,40}KV cache"),
        "lower --max-model-len in spec.engine.args, or give the engine more GPUs",
    ),
    (
        "ModelAccessDenied",
        re.compile(r"gated repo|401 Client Error|403 Client Error|Access to model .* is restricted", re.IGNORECASE),
        "name a Secret with a token that may read it in spec.model.source.hub.secretRef",
    ),
    (
        "ModelNotFound",
        re.compile(
            r"404 Client Error|Repository Not Found|is not a local folder and is not a valid model", re.IGNORECASE
        ),
        "check spec.model.name and spec.model.source",
    ),
    (
        "UnrecognizedArguments",
        re.compile(r"unrecognized arguments?:|error: argument ", re.IGNORECASE),
        "mend spec.engine.args, or choose an image that knows them",
    ),
)

_ERROR_LINE = re.compile(r"^.*?\b((?:\w+\.)*\w*(?:Error|Exception)\b: .+)$", re.MULTILINE)
_NO_CAUSE = "Engine core initialization failed"
"""VLLM's parent process says only that its child has failed; the cause stands above."""

_WAITING_CAUSES = {
    "ImagePullBackOff": "check the image's name, and that the node may pull it",
    "ErrImagePull": "check the image's name, and that the node may pull it",
    "InvalidImageName": "mend the image's name",
    "CreateContainerConfigError": "make the Secret or ConfigMap that is named, or name another",
    "CreateContainerError": "",
    "RunContainerError": "",
}
_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")


def why_unwell(engine: Engine) -> Reason | None:
    """The cause for an engine that does not serve; None while it starts as it should."""
    if engine.failed_at is not None:
        return _why_ended(engine)
    if engine.lost_contact:
        node = as_text(at(engine.pod, ("spec", "nodeName")))
        return because("NodeLost", f"{engine.name}: its node {node} has stopped answering".replace("  ", " "))
    return cause(engine.pod)


def cause(pod: Manifest, main: str = ENGINE_CONTAINER) -> Reason | None:
    """The first cause found in a Pod; `main` is the container that needs no naming."""
    name = as_text(at(pod, ("metadata", "name")))
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return because("Unschedulable", f"{name}: {as_text(scheduled.get('message'))}")
    return next(_container_causes(pod, name, main), None)


def quota_refusal(done: Sequence[Done]) -> Reason | None:
    """An engine that the namespace's quota does not allow: the spec is sound, there is just no room."""
    return next((_refusal(each) for each in done if is_over_quota(each)), None)


def is_over_quota(done: Done) -> bool:
    return isinstance(done.action, CreateEngine) and "exceeded quota" in (done.refused or "")


def _refusal(done: Done) -> Reason:
    return because("QuotaExceeded", f"{done.refused}; raise the namespace's ResourceQuota, or lower spec.replicas")


def _container_causes(pod: Manifest, name: str, main: str) -> Iterator[Reason]:
    init = [as_map(each) for each in as_list(at(pod, ("status", "initContainerStatuses")))]
    for status in (*init, *container_statuses(pod)):
        if status.get("ready") is not True:
            container = as_text(status.get("name"))
            found = _of_container(name if container == main else f"{name} ({container})", status)
            if found is not None:
                yield found


def _of_container(who: str, status: Manifest) -> Reason | None:
    waiting = as_map(at(status, ("state", "waiting")))
    code = as_text(waiting.get("reason"))
    if code in _WAITING_CAUSES:
        return because(code, _sentence(f"{who}: {as_text(waiting.get('message'))}", _WAITING_CAUSES[code]))
    ended = as_map(at(status, ("state", "terminated"))) or as_map(at(status, ("lastState", "terminated")))
    return _of_end(who, ended, restarts=status.get("restartCount") or 0) if ended else None


def _of_end(who: str, ended: Manifest, restarts: object) -> Reason:
    if ended.get("reason") == "OOMKilled":
        return because("OOMKilled", f"{who}: the kernel killed it at its memory limit; raise the memory limit")
    code = ended.get("exitCode")
    if code == KILLED:
        return because("Killed", f"{who}: killed by SIGKILL from outside, not by its memory limit; {restarts} restarts")
    words = as_text(ended.get("message"))
    for known, pattern, mend in _LOG_CAUSES:
        found = pattern.search(words)
        if found is not None:
            return because(known, f"{who}: {_line_with(words, found.start())}; {mend}")
    return because("CrashLoop", f"{who}: ended with exit code {code}, {restarts} restarts: {last_error_line(words)}")


def _why_ended(engine: Engine) -> Reason:
    code = as_text(at(engine.pod, ("status", "reason")))
    words = as_text(at(engine.pod, ("status", "message")))
    known = cause(engine.pod) if not code else None
    if known is not None:
        return known
    return because(code if _CAMEL_CASE.fullmatch(code) else "Failed", f"{engine.name}: {words or 'it ended for good'}")


def last_error_line(words: str) -> str:
    """The last line that names an error and its cause; the last line at all where there is none."""
    errors = [line for line in _ERROR_LINE.findall(words) if _NO_CAUSE not in line]
    return str(errors[-1]).strip() if errors else words.strip().rpartition("\n")[2] or "it said nothing"


def _line_with(text: str, place: int) -> str:
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    return text[start : end if end >= 0 else len(text)].strip()


def _sentence(told: str, mend: str) -> str:
    return f"{told}; {mend}" if mend else told

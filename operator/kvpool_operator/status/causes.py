"""Why an engine is not ready: the cause, in the words of whoever knows it."""

import re
from collections.abc import Sequence

from kvpool_api.conditions import Reason
from kvpool_api.labels import ENGINE_CONTAINER
from kvpool_api.manifest import Manifest, as_map, as_text, at

from kvpool_operator.manifests import condition, container_statuses
from kvpool_operator.plan.actions import because

OOM_EXIT_CODE = 137

_LOG_CAUSES: Sequence[tuple[str, re.Pattern[str], str]] = (
    (
        "CudaOutOfMemory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks", re.IGNORECASE),
        "give the engine more GPU memory, or lower --max-model-len or --gpu-memory-utilization in spec.engine.args",
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

_WAITING_CAUSES = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


def cause(pod: Manifest, container: str = ENGINE_CONTAINER) -> Reason | None:
    """The first cause found for one Pod, by its main container; None while it starts as it should."""
    name = as_text(at(pod, ("metadata", "name")))
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return because("Unschedulable", f"{name}: {as_text(scheduled.get('message'))}")
    status = next((each for each in container_statuses(pod) if each.get("name") == container), {})
    waiting = as_map(at(status, ("state", "waiting")))
    code = as_text(waiting.get("reason"))
    if code in _WAITING_CAUSES:
        return because(code, f"{name}: {as_text(waiting.get('message'))}")
    ended = as_map(at(status, ("state", "terminated"))) or as_map(at(status, ("lastState", "terminated")))
    return _of_end(name, ended, restarts=status.get("restartCount") or 0) if ended else None


def _of_end(name: str, ended: Manifest, restarts: object) -> Reason:
    if ended.get("reason") == "OOMKilled":
        text = f"{name}: the kernel killed it at its memory limit; raise spec.resources.limits.memory"
        return because("OOMKilled", text)
    words = as_text(ended.get("message"))
    for code, pattern, mend in _LOG_CAUSES:
        found = pattern.search(words)
        if found is not None:
            return because(code, f"{name}: {_line_with(words, found.start())}; {mend}")
    last = words.strip().rpartition("\n")[2] or "it said nothing"
    return because("CrashLoop", f"{name}: ended with exit code {ended.get('exitCode')}, {restarts} restarts: {last}")


def _line_with(text: str, place: int) -> str:
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    return text[start : end if end >= 0 else len(text)].strip()

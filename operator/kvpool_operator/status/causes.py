"""Why an engine or router is not ready: the cause, in the words of whoever knows it, and the mend."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Reason
from kvpool_api.labels import ENGINE_CONTAINER
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at

from kvpool_operator.last_words import errors, holds_root_cause, last_error
from kvpool_operator.manifests import condition, container_statuses, seconds
from kvpool_operator.observed import Engine
from kvpool_operator.plan.actions import because
from kvpool_operator.status.log_causes import known_cause, only_echoes
from kvpool_operator.status.scheduling import MOUNT_MEND, not_looked_at, unschedulable

KILLED = 137
"""Exit code of a container that SIGKILL ended: 128 and the signal's number."""
_WHO_KILLS = "by somebody, by a failed probe, or by a node that ran out of memory, but not at its own limit"

_PASSING = frozenset({"Killed", "Evicted", "NodeLost", "CrashLoop", "Failed"})
"""What a restart may mend, or what says little: a cause that somebody has to mend goes before it."""

_WAITING_CAUSES = {
    "ImagePullBackOff": "check the image's name, and that the node may pull it",
    "ErrImageNeverPull": "bring the image to the node, or let its imagePullPolicy be another than Never",
    "InvalidImageName": "mend the image's name",
    "CreateContainerConfigError": "make the Secret or ConfigMap that is named, or name another",
    "CreateContainerError": "",
    "RunContainerError": "check the image, and the command where spec.podTemplate sets one",
}
_PULL_FAILED = frozenset({"ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed"})
"""Kubelets say one of these for a moment and ImagePullBackOff for the minutes between two pulls: it is one trouble."""
_PULL_PREFIX = re.compile(r'^(?:Back-off pulling image "[^"]*": \w+: )?(?:rpc error: code = \w+ desc = )*')
_PASSING_WORDS = re.compile(r"\S+:\d+->(?=\S+:\d+)|\b(?<!sha256:)[0-9a-f]{64}\b")
"""A connection's own port and a container's id: others with each try, and no help."""
_NEVER_RAN = frozenset({"StartError", "ContainerCannotRun"})
_NO_LOG = _NEVER_RAN | {"OOMKilled"}
_RESTARTS = ("not restarted yet", "restarted once", "restarted twice")
_OFTEN = "restarted more than twice"
"""A number that grows would be a write of status and news for nobody; `kubectl get pods` has it."""
_TIMEOUT_MEND = (
    "raise spec.engine.startupTimeoutSeconds, or keep weights near (spec.model.cache) so that they load faster"
)
_LONGEST_BACK_OFF_S = 300
"""Kubelets wait no longer than this between two tries of a container."""
_BEING_MADE = frozenset({"ContainerCreating", "PodInitializing"})
_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True, slots=True)
class ContainerLog:
    """The end of what a container wrote before it ended."""

    container: str
    text: str


def why_unwell(engine: Engine, now: float) -> Reason | None:
    """The cause for an engine that does not serve; None while it starts as it should."""
    if engine.failed_at is not None:
        return _why_ended(engine)
    if engine.lost_contact:
        node = as_text(at(engine.pod, ("spec", "nodeName")))
        return because("NodeLost", f"{engine.name}: its node {node} has stopped answering".replace("  ", " "))
    return (
        _never_started(engine)
        or not_looked_at(engine, now)
        or cause(engine.pod, log=_log_of(engine))
        or _not_mounted(engine)
        or _back_from_a_failure(engine, now)
    )


def _log_of(engine: Engine) -> ContainerLog | None:
    return ContainerLog(engine.log_of or ENGINE_CONTAINER, engine.log) if engine.log else None


def _not_mounted(engine: Engine) -> Reason | None:
    """Kubelets tell of volumes in Events alone. An older complaint is over once another Event has followed it."""
    if as_text(engine.last_event.get("reason")) not in ("FailedMount", "FailedAttachVolume"):
        return None
    return because("FailedMount", f"{engine.name}: {as_text(engine.last_event.get('message'))}; {MOUNT_MEND}")


def _back_from_a_failure(engine: Engine, now: float) -> Reason | None:
    """A container beside the engine that has failed and just runs again: without a probe of its own it counts as ready
    until it fails the next time.
    """
    for status in container_statuses(engine.pod):
        began, container = seconds(at(status, ("state", "running", "startedAt"))), as_text(status.get("name"))
        if _has_failed_beside(status) and began is not None and now - began < _LONGEST_BACK_OFF_S:
            log = engine.log if engine.log_of == container else ""
            return _of_end(f"{engine.name} ({container})", _last_end(status), _restarts(status), log)
    return None


def _has_failed_beside(status: Manifest) -> bool:
    return status.get("name") != ENGINE_CONTAINER and bool(_last_end(status).get("exitCode"))


def _never_started(engine: Engine) -> Reason | None:
    """It was ended because its time to start was over: what its exit code says would then lead astray."""
    status = next((each for each in container_statuses(engine.pod) if each.get("name") == ENGINE_CONTAINER), {})
    ended, limit_s = _last_end(status), _startup_limit_s(engine.pod)
    began, over = seconds(ended.get("startedAt")), seconds(ended.get("finishedAt"))
    if engine.routable or status.get("ready") is True or not limit_s or began is None or over is None:
        return None
    if ended.get("reason") in _NEVER_RAN:  # by its times it would have run since 1970
        return None
    if over - began < limit_s:
        return None
    told = f"{engine.name}: not ready within {limit_s} s and ended for that, {_restarts(status)}"
    return because("StartupTimeout", f"{told}; {_TIMEOUT_MEND}")


def _startup_limit_s(pod: Manifest) -> int:
    """What the Pod's own startup probe allows: the pool's spec may ask for another time by now. 0 without a probe."""
    containers = [as_map(each) for each in as_list(at(pod, ("spec", "containers")))]
    probe = next((as_map(each.get("startupProbe")) for each in containers if each.get("name") == ENGINE_CONTAINER), {})
    period_s, failures = probe.get("periodSeconds"), probe.get("failureThreshold")
    return period_s * failures if isinstance(period_s, int) and isinstance(failures, int) else 0


def whose_log_is_needed(pod: Manifest) -> str | None:
    """The container that has ended by itself, and whose last words in the Pod's status do not hold the root cause.

    Exit code 0 is no good end either: vLLM's server ends so when its engine core has died, and no status tells of that.
    """
    starting = any(status.get("ready") is not True for status in container_statuses(pod))
    for status in _all_statuses(pod):
        ended, name = _last_end(status), as_text(status.get("name"))
        by_itself = ended.get("exitCode") not in (None, KILLED) and ended.get("reason") not in _NO_LOG
        if by_itself and (status.get("ready") is not True or (starting and _has_failed_beside(status))):
            words = as_text(ended.get("message"))
            is_told = holds_root_cause(words) if name == ENGINE_CONTAINER else bool(words.strip())
            return None if is_told else name
    return None


def waits_without_a_word(pod: Manifest) -> bool:
    """A container is being made, for whatever reason it takes time: a mount, an image."""
    waits = (as_map(at(status, ("state", "waiting"))) for status in _all_statuses(pod))
    return any(wait.get("reason") in _BEING_MADE and not wait.get("message") for wait in waits)


def deepest(found: Sequence[Reason]) -> Reason | None:
    """The first that somebody has to mend, else the first."""
    return min(found, key=lambda reason: reason.code in _PASSING, default=None)


def cause(pod: Manifest, main: str = ENGINE_CONTAINER, log: ContainerLog | None = None) -> Reason | None:
    """The first cause found in a Pod; `main` is the container that needs no naming, `log` what one wrote to its end.

    Without a log the cause is looked for in the container's termination message, which holds the log's last 2 KiB.
    """
    name = as_text(at(pod, ("metadata", "name")))
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return unschedulable(name, as_text(scheduled.get("message")), main)
    return next(_container_causes(pod, name, main, log), None)


def _container_causes(pod: Manifest, name: str, main: str, log: ContainerLog | None) -> Iterator[Reason]:
    for status in _all_statuses(pod):
        if status.get("ready") is not True:
            container = as_text(status.get("name"))
            who = name if container == main else f"{name} ({container})"
            found = _of_container(who, status, log.text if log and log.container == container else "")
            if found is not None:
                yield found


def _all_statuses(pod: Manifest) -> Iterator[Manifest]:
    yield from (as_map(each) for each in as_list(at(pod, ("status", "initContainerStatuses"))))
    yield from container_statuses(pod)


def _of_container(who: str, status: Manifest, log: str) -> Reason | None:
    """The same in every phase of a cycle of failures: while it fails, while it waits, while it is tried again."""
    waiting = as_map(at(status, ("state", "waiting")))
    code, message = as_text(waiting.get("reason")), as_text(waiting.get("message"))
    ended = _last_end(status)
    if ended.get("reason") in _NEVER_RAN and code not in _WAITING_CAUSES.keys() - {"RunContainerError"}:
        return _waits(who, "RunContainerError", as_text(ended.get("message")) or message)
    if code in _WAITING_CAUSES or code in _PULL_FAILED:
        return _waits(who, "ImagePullBackOff" if code in _PULL_FAILED else code, message)
    if code == "ContainerCreating" and message:
        return because("FailedMount", f"{who}: {message}; {MOUNT_MEND}")
    return _of_end(who, ended, _restarts(status), log) if ended else None


def _waits(who: str, code: str, message: str) -> Reason:
    words = _PASSING_WORDS.sub("", _PULL_PREFIX.sub("", message))
    return because(code, _sentence(f"{who}: {words}", _WAITING_CAUSES[code]))


def _last_end(status: Manifest) -> Manifest:
    return as_map(at(status, ("state", "terminated"))) or as_map(at(status, ("lastState", "terminated")))


def _restarts(status: Manifest) -> str:
    count = status.get("restartCount") or 0
    return next((words for few, words in enumerate(_RESTARTS) if count == few), _OFTEN)


def _of_end(who: str, ended: Manifest, restarts: str, log: str) -> Reason:
    if ended.get("reason") == "OOMKilled":
        return because("OOMKilled", f"{who}: the kernel killed it at its memory limit, {restarts}; raise that limit")
    code = ended.get("exitCode")
    if code == KILLED:
        return because("Killed", f"{who}: killed by SIGKILL (exit code 137), {restarts}: {_WHO_KILLS}")
    words = log or as_text(ended.get("message"))
    known = known_cause(words) or only_echoes(log)
    if known is not None:
        named, said, mend = known
        return because(named, f"{who}: {said}; {mend}")
    earlier = "" if holds_root_cause(words) or not errors(words)[1] else "; its log tells the cause further above"
    return because("CrashLoop", f"{who}: ended with exit code {code}, {restarts}: {last_error(words)}{earlier}")


def _why_ended(engine: Engine) -> Reason:
    code = as_text(at(engine.pod, ("status", "reason")))
    words = as_text(at(engine.pod, ("status", "message")))
    known = cause(engine.pod, log=_log_of(engine)) if not code else None
    if known is not None:
        return known
    return because(code if _CAMEL_CASE.fullmatch(code) else "Failed", f"{engine.name}: {words or 'it ended for good'}")


def _sentence(told: str, mend: str) -> str:
    return f"{told}; {mend}" if mend else told

"""What a kubelet says about a container, and about the Pod as a whole. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from kvpool_operator.cluster.local.manifests import mapping, sequence, text
from kvpool_operator.cluster.local.process import Exit
from kvpool_operator.cluster.seam import Manifest

HOST_ADDRESS = "127.0.0.1"


def waiting(reason: str, message: str = "") -> Manifest:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(since: str) -> Manifest:
    return {"running": {"startedAt": since}}


def terminated(ended: Exit, *, since: str, now: str, last_words: str) -> Manifest:
    """A failed container carries the end of its log as its message."""
    return {
        "terminated": {
            "exitCode": ended.code,
            **({"signal": ended.signal} if ended.signal is not None else {}),
            "reason": "Completed" if ended.code == 0 else "Error",
            **({"message": last_words} if ended.code != 0 and last_words else {}),
            "startedAt": since,
            "finishedAt": now,
        }
    }


@dataclass(slots=True)
class ContainerStatus:
    """One container as it is now; `state` and `last_state` in the API's own shape."""

    name: str
    image: str
    state: Manifest = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: Manifest = field(default_factory=dict)
    restart_count: int = 0
    started: bool = False
    ready: bool = False
    pid: int | None = None
    is_over: bool = False
    """It ended and is not started again."""
    ended_log: str = ""
    """The end of what the last process that ended wrote: more than `last_state` tells."""

    def rendered(self) -> Manifest:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restart_count,
            "started": self.started,
            "ready": self.ready,
            **({"containerID": f"local://{self.pid}"} if self.pid is not None else {}),
        }


def pod_status(pod: Manifest, containers: Sequence[ContainerStatus], *, address: str, now: str) -> Manifest:
    """Status of a Pod on this machine; times of what did not change are kept from the status it has."""
    before = mapping(pod, "status")
    return {
        "phase": _phase(containers),
        "hostIP": HOST_ADDRESS,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": text(before, "startTime", now),
        "conditions": list(_conditions(pod, containers, now)),
        "containerStatuses": [container.rendered() for container in containers],
    }


def _phase(containers: Sequence[ContainerStatus]) -> str:
    if all(container.is_over for container in containers):
        codes = [mapping(container.state, "terminated").get("exitCode") for container in containers]
        return "Failed" if any(codes) else "Succeeded"
    has_run = all("waiting" not in container.state or container.last_state for container in containers)
    return "Running" if has_run else "Pending"


def _conditions(pod: Manifest, containers: Sequence[ContainerStatus], now: str) -> Iterator[JsonValue]:
    held = {text(condition, "type"): condition for condition in sequence(mapping(pod, "status"), "conditions")}
    unready = [container.name for container in containers if not container.ready]
    containers_fault = f"containers with unready status: [{' '.join(unready)}]" if unready else ""
    gates_fault = _gates_fault(pod, held)
    yield _condition(held, "PodScheduled", "", "", now)
    yield _condition(held, "Initialized", "", "", now)
    yield _condition(held, "ContainersReady", "ContainersNotReady", containers_fault, now)
    reason = "ContainersNotReady" if containers_fault else "ReadinessGatesNotReady"
    yield _condition(held, "Ready", reason, containers_fault or gates_fault, now)


def _gates_fault(pod: Manifest, held: Mapping[str, JsonValue]) -> str:
    for gate in sequence(mapping(pod, "spec"), "readinessGates"):
        name = text(gate, "conditionType")
        if name not in held:
            return f'corresponding condition of pod readiness gate "{name}" does not exist.'
        if text(held[name], "status") != "True":
            return f'the status of pod readiness gate "{name}" is not "True", but {text(held[name], "status")}'
    return ""


def _condition(held: Mapping[str, JsonValue], name: str, reason: str, fault: str, now: str) -> Manifest:
    status = "False" if fault else "True"
    before = held.get(name)
    since = text(before, "lastTransitionTime", now) if text(before, "status") == status else now
    told: Manifest = {"reason": reason, "message": fault} if fault else {}
    return {"type": name, "status": status, "lastTransitionTime": since, **told}

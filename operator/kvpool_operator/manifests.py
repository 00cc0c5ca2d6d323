"""Reading what a cluster answers: untyped JSON into typed facts."""

from collections.abc import Iterator
from datetime import UTC, datetime

from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at
from pydantic import JsonValue


def name_of(manifest: Manifest) -> str:
    return as_text(at(manifest, ("metadata", "name")))


def uid_of(manifest: Manifest) -> str:
    return as_text(at(manifest, ("metadata", "uid")))


def annotation(manifest: Manifest, name: str) -> str | None:
    found = at(manifest, ("metadata", "annotations", name))
    return found if isinstance(found, str) else None


def label(manifest: Manifest, name: str) -> str:
    return as_text(at(manifest, ("metadata", "labels", name)))


def is_terminating(manifest: Manifest) -> bool:
    return at(manifest, ("metadata", "deletionTimestamp")) is not None


def has_ended(pod: Manifest) -> bool:
    """The Pod ended for good (an evicted one too); its object stays as evidence."""
    return at(pod, ("status", "phase")) in ("Failed", "Succeeded")


def condition(manifest: Manifest, kind: str) -> Manifest:
    """The status condition of this type; empty where there is none."""
    found = (as_map(each) for each in as_list(at(manifest, ("status", "conditions"))))
    return next((each for each in found if each.get("type") == kind), {})


def is_true(manifest: Manifest, kind: str) -> bool:
    return condition(manifest, kind).get("status") == "True"


def container_statuses(pod: Manifest) -> Iterator[Manifest]:
    return (as_map(each) for each in as_list(at(pod, ("status", "containerStatuses"))))


def port_named(pod: Manifest, name: str, default: int) -> int:
    """The container port of that name."""
    containers = as_list(at(pod, ("spec", "containers")))
    ports = (as_map(port) for container in containers for port in as_list(as_map(container).get("ports")))
    found = next((port.get("containerPort") for port in ports if port.get("name") == name), default)
    return found if isinstance(found, int) else default


def seconds(time: JsonValue) -> float | None:
    """An RFC 3339 time in seconds since the epoch; None for anything else."""
    try:
        return datetime.fromisoformat(as_text(time)).timestamp()
    except ValueError:
        return None


def rfc3339(now: float) -> str:
    """Whole seconds, as the Kubernetes API writes times."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What state an engine Pod is in, in one word or two, from its status alone."""

from collections.abc import Iterable, Sequence

import pydantic
from kvpool_operator.cluster.seam import Manifest
from pydantic import BaseModel
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    """A part of a Pod; what is not named here is not read."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel)


class _Waiting(_Part):
    reason: str = ""


class _ContainerState(_Part):
    waiting: _Waiting | None = None


class _ContainerStatus(_Part):
    state: _ContainerState = _ContainerState()
    ready: bool = False


class _Status(_Part):
    phase: str = "Pending"
    container_statuses: Sequence[_ContainerStatus] = ()


class _Metadata(_Part):
    name: str
    deletion_timestamp: str | None = None


class _Pod(_Part):
    metadata: _Metadata
    status: _Status = _Status()


def pod_states(pods: Iterable[Manifest]) -> dict[str, str]:
    """State by Pod: why it waits, `starting`, `ready`, `draining`, or its phase."""
    known = (_Pod.model_validate(pod) for pod in pods)
    return {pod.metadata.name: _state(pod) for pod in known}


def _state(pod: _Pod) -> str:
    if pod.metadata.deletion_timestamp is not None:
        return "draining"
    waiting = next((c.state.waiting.reason for c in pod.status.container_statuses if c.state.waiting), "")
    if waiting:
        return waiting
    if pod.status.phase != "Running":
        return pod.status.phase
    return "ready" if all(c.ready for c in pod.status.container_statuses) else "starting"

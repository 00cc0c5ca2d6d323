"""What state an engine Pod is in, in one word or two, and why, from its status alone."""

from collections.abc import Iterable, Sequence

from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.status.causes import cause
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

READY = "ready"


class EnginePod(BaseModel):
    """A Pod for people. `cause` is a sentence where something went wrong, else empty."""

    model_config = ConfigDict(frozen=True)

    state: str
    """Why it waits, `starting`, `ready`, `draining`, or its phase."""
    cause: str = ""


class _Part(BaseModel):
    """A part of a Pod; what is not named here is not read."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Halt(_Part):
    reason: str = ""


class _ContainerState(_Part):
    waiting: _Halt | None = None
    terminated: _Halt | None = None


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


def engine_pods(pods: Iterable[Manifest]) -> dict[str, EnginePod]:
    """Each Pod's state by its name."""
    return dict(map(_known, pods))


def _known(manifest: Manifest) -> tuple[str, EnginePod]:
    pod = _Pod.model_validate(manifest)
    state = _state(pod)
    why = None if state == READY else cause(manifest)
    return pod.metadata.name, EnginePod(state=state, cause=why.message if why else "")


def _state(pod: _Pod) -> str:
    if pod.metadata.deletion_timestamp is not None:
        return "draining"
    halts = (halt for c in pod.status.container_statuses for halt in (c.state.waiting, c.state.terminated) if halt)
    if reason := next((halt.reason for halt in halts if halt.reason), ""):
        return reason
    if pod.status.phase != "Running":
        return pod.status.phase
    return READY if all(c.ready for c in pod.status.container_statuses) else "starting"

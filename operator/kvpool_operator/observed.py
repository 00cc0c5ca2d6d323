"""What there is, as one value: all that `plan` and `status` may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvpool_api.manifest import Manifest
from kvpool_api.pool import InferencePool
from kvpool_api.wire import RouterState, WorkerState

ChildKey = tuple[str, str]
"""(kind, name)"""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine Pod. Times are seconds since the epoch."""

    name: str
    uid: str
    slot: int
    template_hash: str
    applied_template: str
    builder_revision: str
    created_at: float
    terminating: bool
    failed_at: float | None
    """When it ended for good (Failed, evicted) or its node was given up."""
    containers_ready_since: float | None
    lost_contact: bool
    """Its node has stopped answering, so nobody knows how it is."""
    routable: bool
    """It has passed the readiness gate, which is for good."""
    draining_since: float | None
    pod: Manifest
    log: str = ""
    """What one of its containers wrote before it ended, where the Pod's own status does not hold the cause."""
    log_of: str = ""
    """That container."""
    last_event: Manifest = field(default_factory=dict)
    """What was last told about it, while its containers wait and its status does not say for what."""

    @property
    def active(self) -> bool:
        """Neither on its way out nor broken."""
        return not self.terminating and self.failed_at is None

    @property
    def kept(self) -> bool:
        """Active, and meant to stay."""
        return self.active and self.draining_since is None

    @property
    def available(self) -> bool:
        """Routers send it requests."""
        return self.kept and self.routable and self.containers_ready_since is not None and not self.lost_contact


@dataclass(frozen=True, slots=True)
class Router:
    """One router Pod, with its answer or why there is none."""

    name: str
    terminating: bool
    ready: bool
    running: bool
    """Its process runs, as far as its kubelet has told: else it can hold no connection."""
    pod: Manifest
    state: RouterState | None = None
    silent: str = ""
    """Why there is no state."""
    mend: str = ""
    """What to do about that, where it is known."""
    has_been_ready: bool = False
    """Since its process began: then it does not start any more."""

    def workers_of(self, engine: str) -> list[WorkerState]:
        return [worker for worker in self.state.workers if worker.pod == engine] if self.state else []


@dataclass(frozen=True, slots=True)
class Observed:
    """One pool's world at one moment."""

    pool: InferencePool
    engines: tuple[Engine, ...] = ()
    routers: tuple[Router, ...] = ()
    children: Mapping[ChildKey, Manifest] = field(default_factory=dict)
    token: str | None = None
    """The admin token, once there is a Secret with one."""
    secret: Manifest = field(default_factory=dict)
    """What bears that Secret's name, whosoever it is; empty where nothing does."""

    @property
    def kept(self) -> tuple[Engine, ...]:
        return tuple(engine for engine in self.engines if engine.kept)

    @property
    def available(self) -> int:
        return sum(engine.available for engine in self.engines)

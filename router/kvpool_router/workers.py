"""Who serves: a worker is one DP rank of one engine pod, with the addresses at which it is reached."""

from dataclasses import dataclass
from typing import NamedTuple


class WorkerId(NamedTuple):
    """Names one worker for the life of its pod's name."""

    pod: str
    dp_rank: int

    def __str__(self) -> str:
        return f"{self.pod}/{self.dp_rank}"


class Incarnation(NamedTuple):
    """One process of an engine: whatever it cached is gone once this changes."""

    pod_uid: str
    restart_count: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as membership tells it. Addresses are facts of the pod, never derived by whoever uses them."""

    id: WorkerId
    pod_uid: str
    restart_count: int
    """Restarts of the container `engine`."""
    url: str
    """Base of the engine's HTTP API; the ranks of one pod share it."""
    events: str | None
    """ZMQ address of the live KV events; None where the pod declares none."""
    replay: str | None
    """ZMQ address that answers replay requests."""
    ready: bool
    """The pod's containers are ready. Not the Pod's own Ready, which waits for routers."""
    draining: bool
    """Told to drain: nothing new may be sent."""
    terminating: bool

    @property
    def incarnation(self) -> Incarnation:
        return Incarnation(self.pod_uid, self.restart_count)

    @property
    def accepts_requests(self) -> bool:
        return self.ready and not self.draining and not self.terminating


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router of the pool, the reader's own among them."""

    name: str
    admin_url: str
    """Base of its admin port."""


class Roster:
    """The workers of the pool as last told; read on every request, replaced as a whole by each snapshot.

    Replacing is one assignment: a request that is placed after a drain mark was read can no longer choose that worker,
    so `draining` in an answer of the admin endpoint is an acknowledgement.
    """

    def __init__(self) -> None:
        self.workers: tuple[Worker, ...] = ()
        self.known = False
        """A snapshot has been read, even an empty one."""
        self._accepting: tuple[Worker, ...] = ()

    def replace(self, workers: tuple[Worker, ...]) -> None:
        self.workers = workers
        self.known = True
        self._accepting = tuple(worker for worker in workers if worker.accepts_requests)

    def process_of(self, worker: WorkerId) -> Incarnation | None:
        """None for a worker that is not of the pool."""
        return next((each.incarnation for each in self.workers if each.id == worker), None)

    def accepting(self) -> tuple[Worker, ...]:
        """Workers that may be sent new requests."""
        return self._accepting

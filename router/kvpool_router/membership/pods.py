"""From Pods, as the Kubernetes API writes them, to workers and routers. Pure; a bad Pod yields only a reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from kvpool_api.labels import (
    DATA_PARALLEL_SIZE,
    DRAINING,
    ENGINE_CONTAINER,
    KV_EVENTS_ENDPOINTS,
    ROLE,
    ROLE_ROUTER,
)
from kvpool_api.wire import (
    ADMIN_PORT_NAME,
    ENGINE_HTTP_PORT,
    EVENTS_PORT_NAME,
    HTTP_PORT_NAME,
    REPLAY_PORT_NAME,
    ROUTER_ADMIN_PORT,
)
from pydantic import JsonValue

from kvpool_router.membership.protocol import Snapshot
from kvpool_router.workers import RouterPod, Worker, WorkerId

MAX_DATA_PARALLEL_SIZE = 1024
ENDED_PHASES = frozenset({"Succeeded", "Failed"})


class _Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str | None = None


class _Container(msgspec.Struct):
    ports: list[_Port] = []


class _Spec(msgspec.Struct):
    containers: list[_Container] = []


class _Condition(msgspec.Struct):
    type: str
    status: str


class _ContainerStatus(msgspec.Struct, rename="camel"):
    name: str
    restart_count: int = 0


class _Status(msgspec.Struct, rename="camel"):
    pod_ip: str = msgspec.field(default="", name="podIP")
    phase: str = ""
    conditions: list[_Condition] = []
    container_statuses: list[_ContainerStatus] = []


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    uid: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Pod(msgspec.Struct):
    """The few fields of a v1 Pod that routing needs; all others are ignored."""

    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def is_reachable(self) -> bool:
        """It has an address, and has not ended."""
        return bool(self.status.pod_ip) and self.status.phase not in ENDED_PHASES


class Endpoints(msgspec.Struct, frozen=True):
    """ZMQ addresses of one rank."""

    events: str | None = None
    replay: str | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """Workers and routers read from a list of Pods, and the pods that had to be left out, each with its reason."""

    workers: tuple[Worker, ...]
    routers: tuple[RouterPod, ...]
    left_out: tuple[str, ...]

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.workers, self.routers)


def members_of(pods: Iterable[JsonValue]) -> Members:
    """Workers of all pods, ordered by (pod, rank), and routers by name; of neither before it has an address."""
    workers: list[Worker] = []
    routers: list[RouterPod] = []
    left_out: list[str] = []
    for pod in pods:
        try:
            known = _read(pod)
            if not known.is_reachable:
                continue
            if known.metadata.labels.get(ROLE) == ROLE_ROUTER:
                routers.append(_router(known))
            else:
                workers.extend(_workers(known))
        except ValueError as error:
            left_out.append(str(error))
    return Members(
        tuple(sorted(workers, key=lambda worker: worker.id)),
        tuple(sorted(routers, key=lambda router: router.name)),
        tuple(left_out),
    )


def workers_of(pod: JsonValue) -> tuple[Worker, ...]:
    """The workers that an engine Pod is: one a DP rank, none before it has an address or once it has ended.

    Raises ValueError, with the pod's name, for a Pod that breaks the shape of the API or of our annotations.
    """
    known = _read(pod)
    return _workers(known) if known.is_reachable else ()


def _read(pod: JsonValue) -> _Pod:
    try:
        return msgspec.convert(pod, _Pod)
    except msgspec.ValidationError as error:
        raise ValueError(f"pod {_name_of(pod)}: {error}") from error


def _router(pod: _Pod) -> RouterPod:
    port = _ports(pod).get(ADMIN_PORT_NAME, ROUTER_ADMIN_PORT)
    return RouterPod(pod.metadata.name, f"http://{_bracketed(pod.status.pod_ip)}:{port}")


def _ports(pod: _Pod) -> Mapping[str | None, int]:
    return {port.name: port.container_port for container in pod.spec.containers for port in container.ports}


def _workers(pod: _Pod) -> tuple[Worker, ...]:
    host = _bracketed(pod.status.pod_ip)
    ports = _ports(pod)
    metadata = pod.metadata
    try:
        ranks = _endpoints(host, metadata.annotations, ports)
    except ValueError as error:
        raise ValueError(f"pod {metadata.name}: {error}") from error
    return tuple(
        Worker(
            id=WorkerId(metadata.name, rank),
            pod_uid=metadata.uid,
            restart_count=_restart_count(pod.status),
            url=f"http://{host}:{ports.get(HTTP_PORT_NAME, ENGINE_HTTP_PORT)}",
            events=endpoints.events,
            replay=endpoints.replay,
            ready=_containers_ready(pod.status),
            draining=DRAINING in metadata.annotations,
            terminating=metadata.deletion_timestamp is not None,
        )
        for rank, endpoints in enumerate(ranks)
    )


def _endpoints(host: str, annotations: Mapping[str, str], ports: Mapping[str | None, int]) -> Sequence[Endpoints]:
    """One entry a rank; vLLM adds the rank to both ports, an annotation replaces what is derived."""
    size = _data_parallel_size(annotations)
    told = annotations.get(KV_EVENTS_ENDPOINTS)
    if told is not None:
        return _told_endpoints(told, size)

    def address(port_name: str, rank: int) -> str | None:
        port = ports.get(port_name)
        return None if port is None else f"tcp://{host}:{port + rank}"

    return [Endpoints(address(EVENTS_PORT_NAME, rank), address(REPLAY_PORT_NAME, rank)) for rank in range(size)]


def _told_endpoints(annotation: str, size: int) -> Sequence[Endpoints]:
    try:
        told = msgspec.json.decode(annotation, type=list[Endpoints])
    except msgspec.DecodeError as error:
        raise ValueError(f'{KV_EVENTS_ENDPOINTS} must be a JSON list of {{"events", "replay"}}: {error}') from error
    if len(told) != size:
        raise ValueError(f"{KV_EVENTS_ENDPOINTS} names {len(told)} ranks, {DATA_PARALLEL_SIZE} says {size}")
    return told


def _data_parallel_size(annotations: Mapping[str, str]) -> int:
    told = annotations.get(DATA_PARALLEL_SIZE, "1")
    if not (told.isdecimal() and 1 <= int(told) <= MAX_DATA_PARALLEL_SIZE):
        raise ValueError(f"{DATA_PARALLEL_SIZE} must be a number from 1 to {MAX_DATA_PARALLEL_SIZE}, not {told!r}")
    return int(told)


def _containers_ready(status: _Status) -> bool:
    return any(condition.type == "ContainersReady" and condition.status == "True" for condition in status.conditions)


def _restart_count(status: _Status) -> int:
    return next((c.restart_count for c in status.container_statuses if c.name == ENGINE_CONTAINER), 0)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _name_of(pod: JsonValue) -> str:
    try:
        return msgspec.convert(pod, _Named).metadata.name
    except msgspec.ValidationError:
        return "without a name"


class _OnlyName(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    metadata: _OnlyName

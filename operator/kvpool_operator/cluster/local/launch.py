"""Turns a container of a Pod into a running process on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from kvpool_api.labels import KV_EVENTS_ENDPOINTS
from pydantic import JsonValue

from kvpool_operator.cluster.local import command_line, leftovers
from kvpool_operator.cluster.local.addresses import LoopbackBlock, is_free
from kvpool_operator.cluster.local.command_line import EventSockets
from kvpool_operator.cluster.local.container import Launched
from kvpool_operator.cluster.local.errors import StartFault, UnknownImage
from kvpool_operator.cluster.local.images import ImageTable, Program
from kvpool_operator.cluster.local.manifests import mapping, namespace_of, number, sequence, text
from kvpool_operator.cluster.local.probes import probes_of
from kvpool_operator.cluster.local.process import Command, Process
from kvpool_operator.cluster.local.run_dir import RunDir
from kvpool_operator.cluster.local.store import Store
from kvpool_operator.cluster.local.volumes import mounts_of, provided
from kvpool_operator.cluster.seam import Manifest, NotFound
from kvpool_operator.manifests import name_of, uid_of

FIELD_MANAGER = "kvpool-local-kubelet"


@dataclass(frozen=True, slots=True)
class Node:
    """What this machine gives to its Pods."""

    store: Store
    images: ImageTable
    addresses: LoopbackBlock
    run_dir: RunDir
    http: aiohttp.ClientSession
    environment: Mapping[str, str]
    """What every process starts from: PATH and the like."""
    now: Callable[[], str]
    """RFC 3339."""


async def launch(node: Node, pod: Manifest, container: JsonValue, address: str) -> Launched:
    """Start the container's stand-in. Raises StartFault with what a kubelet would write into the waiting state."""
    _refuse_unsupported(pod, container)
    program = _program(node.images, container)
    probes = probes_of(container, address, node.http)
    _require_ports(container, address)
    try:
        command = _command(node, pod, container, program, address)
        return Launched(await Process.start(command), probes)
    except (OSError, ValueError) as error:
        raise StartFault("CreateContainerError", str(error)) from error


def _command(node: Node, pod: Manifest, container: JsonValue, program: Program, address: str) -> Command:
    folder = node.run_dir.of_pod(pod)
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    mounts = mounts_of(container, provided(pod, folder / "volumes", node.store.get))
    variables = command_line.variables_of(pod, container, address, node.store.get)
    own = {name: command_line.placed(value, mounts, address) for name, value in variables.items()}
    argv = [command_line.placed(part, mounts, address) for part in command_line.argv_of(container, program, variables)]
    if program.events_over_ipc:
        argv = command_line.with_event_sockets(argv, _event_sockets(node, pod))
    name = text(container, "name")
    return Command(
        argv=argv,
        env={
            **node.environment,
            "HOSTNAME": name_of(pod),
            **own,
            **program.env,
            leftovers.MARK: node.run_dir.mark,
        },
        folder=work,
        log=node.run_dir.log_of(pod, name, is_first=text(sequence(pod.get("spec"), "containers")[0], "name") == name),
    )


def _event_sockets(node: Node, pod: Manifest) -> EventSockets:
    """Sockets of the engine, told to routers by an annotation before it starts."""
    command_line.require_one_rank(pod)
    base = f"ipc://{node.run_dir.sockets}/{uid_of(pod)[:8]}"
    sockets = EventSockets(f"{base}e", f"{base}r")
    told: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(pod),
            "namespace": namespace_of(pod),
            "uid": uid_of(pod),
            "annotations": {KV_EVENTS_ENDPOINTS: sockets.annotation()},
        },
    }
    try:
        node.store.apply(told, manager=FIELD_MANAGER, force=True)
    except NotFound as gone:
        raise StartFault("ContainerCreating", str(gone)) from None
    return sockets


def _program(images: ImageTable, container: JsonValue) -> Program:
    try:
        return images.program(text(container, "image"), text(container, "name"))
    except UnknownImage as unknown:
        raise StartFault("ErrImageNeverPull", str(unknown)) from None


def _refuse_unsupported(pod: Manifest, container: JsonValue) -> None:
    if sequence(pod.get("spec"), "initContainers"):
        raise StartFault("CreateContainerConfigError", "initContainers: the local cluster runs none; remove them")
    if mapping(mapping(container, "lifecycle"), "postStart"):
        raise StartFault("CreateContainerConfigError", "lifecycle.postStart: the local cluster has none; remove it")


def _require_ports(container: JsonValue, address: str) -> None:
    for port in sequence(container, "ports"):
        if text(port, "protocol", "TCP") == "TCP" and not is_free(address, number(port, "containerPort", 0)):
            raise StartFault(
                "RunContainerError",
                f"port {number(port, 'containerPort', 0)} on {address} is in use: another program on this machine "
                "listens there, or on all addresses; stop it",
            )

"""From a container's spec to argv and environment, as a kubelet makes them. What is read comes by a function."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvpool_api.labels import DATA_PARALLEL_SIZE
from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.images import Program
from kvpool_operator.cluster.local.manifests import mapping, metadata, namespace_of, sequence, text
from kvpool_operator.cluster.local.volumes import Mounts, Read, contents
from kvpool_operator.cluster.seam import Manifest, NotFound, Ref
from kvpool_operator.manifests import name_of

REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
EVENTS_OPTION = "--kv-events-config"
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - recognised, not bound
NODE_NAME = "local"


@dataclass(frozen=True, slots=True)
class EventSockets:
    """Endpoints of one engine's KV events where they go through the file system."""

    events: str
    replay: str

    def annotation(self) -> str:
        """As routers read it from the Pod: one entry a rank, and vLLM's ipc endpoints know one rank only."""
        return json.dumps([{"events": self.events, "replay": self.replay}])


def expanded(value: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known, `$$` is a dollar; everything else stays, as a kubelet leaves it."""

    def found(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return REFERENCE.sub(found, value)


def variables_of(pod: Manifest, container: JsonValue, address: str, read: Read) -> dict[str, str]:
    """The container's own environment; a variable may refer to those before it. Raises StartFault."""
    variables: dict[str, str] = {}
    for entry in sequence(container, "envFrom"):
        variables |= _all_keys(pod, entry, read)
    for entry in sequence(container, "env"):
        source = mapping(entry, "valueFrom")
        value = _sourced(pod, source, address, read) if source else expanded(text(entry, "value"), variables)
        if value is not None:
            variables[text(entry, "name")] = value
    return variables


def argv_of(container: JsonValue, program: Program, variables: Mapping[str, str]) -> list[str]:
    """The stand-in for the entrypoint, or the container's own command, and the arguments."""
    command = [expanded(str(part), variables) for part in sequence(container, "command")]
    return (command or list(program.argv)) + [expanded(str(part), variables) for part in sequence(container, "args")]


def placed(value: str, mounts: Mounts, address: str) -> str:
    """A path inside the container as it is here; all addresses of a Pod are its one address here."""
    return address if value == ALL_ADDRESSES else mounts.rewritten(value)


def with_event_sockets(argv: Sequence[str], sockets: EventSockets) -> list[str]:
    """Argv whose `--kv-events-config` names the sockets instead of ports."""

    def moved(config: str) -> str:
        told = json.loads(config)
        return json.dumps({**told, "endpoint": sockets.events, "replay_endpoint": sockets.replay})

    inline = f"{EVENTS_OPTION}="
    return [
        f"{inline}{moved(part.removeprefix(inline))}"
        if part.startswith(inline)
        else (moved(part) if before == EVENTS_OPTION else part)
        for before, part in zip(("", *argv), argv, strict=False)
    ]


def require_one_rank(pod: Manifest) -> None:
    """Raises StartFault for several DP ranks over ipc: vLLM derives no second endpoint from an ipc one."""
    if text(mapping(pod.get("metadata"), "annotations"), DATA_PARALLEL_SIZE, "1") != "1":
        raise StartFault(
            "CreateContainerConfigError",
            "spec.engine.dataParallelSize: real vLLM has one DP rank in the local cluster (its events go over ipc://); "
            "set it to 1 and use more replicas",
        )


def _all_keys(pod: Manifest, entry: JsonValue, read: Read) -> dict[str, str]:
    prefix = text(entry, "prefix")
    for field, kind in (("configMapRef", seam.CONFIG_MAP), ("secretRef", seam.SECRET)):
        if name := text(mapping(entry, field), "name"):
            held = _contents(pod, kind, name, read, is_optional=mapping(entry, field).get("optional") is True)
            return {f"{prefix}{key}": value.decode() for key, value in (held or {}).items()}
    return {}


def _sourced(pod: Manifest, source: Mapping[str, JsonValue], address: str, read: Read) -> str | None:
    for field, kind in (("configMapKeyRef", seam.CONFIG_MAP), ("secretKeyRef", seam.SECRET)):
        if field in source:
            return _key(pod, kind, source[field], read)
    path = text(mapping(source, "fieldRef"), "fieldPath")
    value = _field(pod, path, address)
    if value is None:
        raise StartFault("CreateContainerConfigError", f"valueFrom: the local cluster cannot give {path or source!r}")
    return value


def _key(pod: Manifest, kind: seam.Kind, source: JsonValue, read: Read) -> str | None:
    name, key = text(source, "name"), text(source, "key")
    is_optional = isinstance(source, dict) and source.get("optional") is True
    held = _contents(pod, kind, name, read, is_optional=is_optional)
    if key in held:
        return held[key].decode()
    if is_optional:
        return None
    raise StartFault("CreateContainerConfigError", f"couldn't find key {key} in {kind.kind} {namespace_of(pod)}/{name}")


def _contents(pod: Manifest, kind: seam.Kind, name: str, read: Read, *, is_optional: bool) -> dict[str, bytes]:
    try:
        return contents(read(Ref(kind, namespace_of(pod), name)))
    except NotFound as missing:
        if is_optional:
            return {}
        raise StartFault("CreateContainerConfigError", str(missing)) from None


def _field(pod: Manifest, path: str, address: str) -> str | None:
    """A field of the downward API, None where it is not one."""
    fixed = {
        "metadata.name": name_of(pod),
        "metadata.namespace": namespace_of(pod),
        "metadata.uid": text(pod["metadata"], "uid"),
        "spec.nodeName": NODE_NAME,
        "spec.serviceAccountName": text(pod.get("spec"), "serviceAccountName", "default"),
        "status.hostIP": "127.0.0.1",
        "status.podIP": address,
        "status.podIPs": address,
    }
    if path in fixed:
        return fixed[path]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    return text(mapping(metadata(pod), keyed[1]), keyed[2]) if keyed else None

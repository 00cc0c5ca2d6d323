"""A Pod's volumes as folders on this machine, and paths inside a container rewritten to them."""

import base64
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.errors import StartFault
from kvpool_operator.cluster.local.manifests import mapping, namespace_of, sequence, text
from kvpool_operator.cluster.seam import Manifest, NotFound, Ref

Read = Callable[[Ref], Manifest]
"""The object now. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where each mount path of one container really is, longest path first."""

    folders: tuple[tuple[str, Path], ...]

    def rewritten(self, value: str) -> str:
        """The value with a leading mount path replaced, also after `--option=`; any other value as it is."""
        option, equals, rest = value.partition("=")
        if equals and option.startswith("--"):
            return f"{option}={self._rewritten(rest)}"
        return self._rewritten(value)

    def _rewritten(self, value: str) -> str:
        for path, folder in self.folders:
            if value == path or value.startswith(f"{path}/"):
                return f"{folder}{value[len(path) :]}"
        return value


def mounts_of(container: JsonValue, volumes: Mapping[str, Path]) -> Mounts:
    """Raises StartFault for a mount of a volume that the Pod does not have."""
    found: dict[str, Path] = {}
    for mount in sequence(container, "volumeMounts"):
        name = text(mount, "name")
        if name not in volumes:
            raise StartFault("CreateContainerConfigError", f"volumeMounts: the Pod has no volume {name!r}")
        found[text(mount, "mountPath").rstrip("/")] = volumes[name] / text(mount, "subPath")
    return Mounts(tuple(sorted(found.items(), key=lambda item: -len(item[0]))))


def provided(pod: Manifest, folder: Path, read: Read) -> dict[str, Path]:
    """Folders of all volumes of the Pod, made under `folder`. Raises StartFault while one of them cannot be made."""
    return {
        text(volume, "name"): _provided(pod, volume, folder / text(volume, "name"), read)
        for volume in sequence(pod.get("spec"), "volumes")
    }


def _provided(pod: Manifest, volume: JsonValue, folder: Path, read: Read) -> Path:
    if host_path := text(mapping(volume, "hostPath"), "path"):
        return _existing(text(volume, "name"), Path(host_path), text(mapping(volume, "hostPath"), "type"))
    files = _files(pod, volume, read)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        target.write_bytes(content)
    return folder


def _existing(volume: str, path: Path, kind: str) -> Path:
    if not kind.endswith("OrCreate") and not path.exists():
        raise StartFault("ContainerCreating", f"volume {volume!r}: there is no {path} on this machine")
    if kind.endswith("OrCreate"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _files(pod: Manifest, volume: JsonValue, read: Read) -> Mapping[str, bytes]:
    name, fields = text(volume, "name"), volume if isinstance(volume, dict) else {}
    if "emptyDir" in fields:
        return {}
    for field, kind, named in (("configMap", seam.CONFIG_MAP, "name"), ("secret", seam.SECRET, "secretName")):
        if field in fields:
            source = mapping(fields, field)
            return _chosen(pod, name, kind, text(source, named), source, read)
    raise StartFault(
        "CreateContainerConfigError",
        f"volume {name!r}: the local cluster has only emptyDir, hostPath, configMap and secret volumes; "
        "for weights on this machine use spec.model.source.path",
    )


def _chosen(
    pod: Manifest, volume: str, kind: seam.Kind, name: str, source: Mapping[str, JsonValue], read: Read
) -> Mapping[str, bytes]:
    try:
        content = contents(read(Ref(kind, namespace_of(pod), name)))
    except NotFound as missing:
        if source.get("optional") is True:
            return {}
        fault = f'MountVolume.SetUp failed for volume "{volume}": {missing}'
        raise StartFault("ContainerCreating", fault) from None
    items = sequence(source, "items")
    if not items:
        return content
    missing_key = next((text(item, "key") for item in items if text(item, "key") not in content), None)
    if missing_key is not None:
        raise StartFault("ContainerCreating", f'volume "{volume}": {kind.plural} "{name}" has no key {missing_key!r}')
    return {text(item, "path"): content[text(item, "key")] for item in items}


def contents(manifest: Manifest) -> dict[str, bytes]:
    """The bytes of a ConfigMap or Secret by key."""
    is_secret = manifest.get("kind") == seam.SECRET.kind
    plain = {} if is_secret else {k: v.encode() for k, v in mapping(manifest, "data").items() if isinstance(v, str)}
    encoded = mapping(manifest, "data" if is_secret else "binaryData")
    return plain | {key: base64.b64decode(value) for key, value in encoded.items() if isinstance(value, str)}


def discard(folder: Path) -> None:
    """Remove what was made for a Pod; what cannot be removed is left."""
    shutil.rmtree(folder, ignore_errors=True)

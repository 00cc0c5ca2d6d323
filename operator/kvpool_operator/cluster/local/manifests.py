"""What the local cluster reads beyond `kvpool_operator.manifests`: fields by key with a default, or Refused."""

import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from kvpool_operator.cluster.seam import KINDS, Manifest, Ref, Refused

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

Readable = JsonValue | Mapping[str, JsonValue]


def mapping(value: Readable, key: str) -> Mapping[str, JsonValue]:
    """The map under `key`; empty where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, dict) else {}


def sequence(value: Readable, key: str) -> tuple[JsonValue, ...]:
    """The list under `key`; empty where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return tuple(found) if isinstance(found, list) else ()


def text(value: Readable, key: str, default: str = "") -> str:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else default


def number(value: Readable, key: str, default: int) -> int:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def metadata(manifest: Manifest) -> Mapping[str, JsonValue]:
    return mapping(manifest, "metadata")


def namespace_of(manifest: Manifest) -> str:
    return text(manifest["metadata"], "namespace", "default")


def labels_of(manifest: Manifest) -> Mapping[str, JsonValue]:
    return mapping(manifest.get("metadata"), "labels")


def has_labels(manifest: Manifest, wanted: Mapping[str, JsonValue]) -> bool:
    held = labels_of(manifest)
    return all(held.get(label) == value for label, value in wanted.items())


def owner_uids(manifest: Manifest) -> Iterator[str]:
    return (text(reference, "uid") for reference in sequence(manifest.get("metadata"), "ownerReferences"))


def ref_of(manifest: Manifest) -> Ref:
    """Which object a manifest speaks of. Raises Refused for a kind that is not served or a name that is none."""
    kind = KINDS.get(text(manifest, "kind"))
    if kind is None or kind.api_version != manifest.get("apiVersion"):
        raise Refused(f'no matches for kind "{manifest.get("kind")}" in version "{manifest.get("apiVersion")}"')
    name = text(manifest.get("metadata"), "name")
    if not NAME.fullmatch(name):
        raise Refused(
            f'{kind.kind} "{name}" is invalid: metadata.name: Invalid value: "{name}": a name consists of lower case '
            "letters, digits, '-' or '.', and starts and ends with a letter or digit"
        )
    return Ref(kind, text(manifest.get("metadata"), "namespace", "default"), name)

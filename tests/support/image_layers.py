"""An image that differs in a few files from one that the cluster has: made in a second, without a builder."""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kvnode.archives import tar_of

Described = dict[str, Any]
"""A JSON object of the OCI image specification."""

WHITEOUT = ".wh."
"""Before a file's name: the layer takes that file away (OCI image specification, layer)."""


def relayered(archive: Path, tag: str, files: Mapping[str, bytes], into: Path) -> Path:
    """An OCI archive of `tag`: the image of `archive` and one more layer with `files`, by path.

    It holds what is new alone: whoever loads it has loaded `archive` before.
    """
    layer = tar_of(files, 0o644)
    blobs = {_digest(layer): layer}

    def described(kind: str, content: bytes) -> Described:
        blobs[_digest(content)] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": _digest(content), "size": len(content)}

    with tarfile.open(archive) as base:
        (listed,) = _json(base, "index.json")["manifests"]
        manifest = _blob(base, listed["digest"])
        config = _blob(base, manifest["config"]["digest"])
    config["rootfs"]["diff_ids"].append(_digest(layer))
    config.pop("history", None)
    manifest["config"] = described("config.v1+json", json.dumps(config).encode())
    manifest["layers"].append(described("layer.v1.tar", layer))
    named = described("manifest.v1+json", json.dumps(manifest).encode())
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    held = {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in blobs.items()}
    into.write_bytes(tar_of({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **held}, 0o644))
    return into


def without(path: str) -> dict[str, bytes]:
    """For `files`: that one is gone."""
    folder, _, name = path.rpartition("/")
    return {f"{folder}/{WHITEOUT}{name}": b""}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(archive: tarfile.TarFile, digest: str) -> Described:
    return _json(archive, f"blobs/{digest.replace(':', '/')}")


def _json(archive: tarfile.TarFile, name: str) -> Described:
    found = archive.extractfile(name)
    assert found is not None, f"{archive.name} holds no {name}"
    return cast(Described, json.load(found))

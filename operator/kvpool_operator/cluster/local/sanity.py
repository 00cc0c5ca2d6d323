"""The few rules of built-in kinds that an operator's mistake would break first; a cluster checks far more."""

import base64
from collections.abc import Callable

from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local.manifests import mapping, sequence, text
from kvpool_operator.cluster.seam import Manifest, Refused
from kvpool_operator.manifests import name_of

Check = Callable[[Manifest, Manifest | None], str | None]


def refuse_unsound(kind: seam.Kind, new: Manifest, old: Manifest | None) -> None:
    """Raise Refused, worded as the API server does, where a built-in object cannot be."""
    check = _CHECKS.get(kind)
    fault = check(new, old) if check is not None else None
    if fault is not None:
        raise Refused(f'{kind.kind} "{name_of(new)}" is invalid: {fault}')


def normalized(manifest: Manifest) -> Manifest:
    """What the API server makes of an applied built-in object before it merges: no nulls, Secret text as data."""
    plain = _without_nulls(manifest)
    if manifest.get("kind") == seam.SECRET.kind and "stringData" in plain:
        encoded = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in mapping(plain, "stringData").items()
            if isinstance(value, str)
        }
        del plain["stringData"]
        plain["data"] = {**mapping(plain, "data"), **encoded}
    return plain


def _without_nulls(value: Manifest) -> Manifest:
    return {key: _plain(child) for key, child in value.items() if child is not None}


def _plain(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return _without_nulls(value)
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return value


def _pod(new: Manifest, old: Manifest | None) -> str | None:
    if old is not None and new.get("spec") != old.get("spec"):
        return "spec: Forbidden: pod updates may not change fields of spec; replace the Pod"
    return _containers("spec", new.get("spec"))


def _deployment(new: Manifest, old: Manifest | None) -> str | None:
    spec = new.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    if old is not None and selector != mapping(old, "spec").get("selector"):
        return "spec.selector: Invalid value: field is immutable"
    wanted = mapping(selector, "matchLabels")
    labels = mapping(mapping(mapping(spec, "template"), "metadata"), "labels")
    if not wanted or any(labels.get(label) != value for label, value in wanted.items()):
        return "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"
    return _containers("spec.template.spec", mapping(spec, "template").get("spec"))


def _containers(at: str, spec: JsonValue) -> str | None:
    containers = sequence(spec, "containers")
    if not containers:
        return f"{at}.containers: Required value"
    for index, container in enumerate(containers):
        if not text(container, "image"):
            return f"{at}.containers[{index}].image: Required value"
    return None


_CHECKS: dict[seam.Kind, Check] = {seam.POD: _pod, seam.DEPLOYMENT: _deployment}

"""Where objects are in the API: paths and queries."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from kvpool_api.manifest import as_text, at

from kvpool_operator.cluster.seam import KINDS, Kind, Manifest, Ref, Refused

Parameters = Mapping[str, str | int | bool | None]


def collection(kind: Kind, namespace: str | None) -> str:
    """All objects of the kind, of one namespace or of all."""
    root = "/api" if "/" not in kind.api_version else "/apis"
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
    return f"{root}/{kind.api_version}{within}/{kind.plural}"


def single(ref: Ref, subresource: str | None = None) -> str:
    below = f"/{subresource}" if subresource else ""
    return f"{collection(ref.kind, ref.namespace)}/{quote(ref.name, safe='')}{below}"


def ref_of(manifest: Manifest) -> Ref:
    """Which object a manifest speaks of. Raises Refused for a kind that the operator has nothing to do with."""
    kind = KINDS.get(as_text(manifest.get("kind")))
    if kind is None or kind.api_version != manifest.get("apiVersion"):
        raise Refused(f'no matches for kind "{manifest.get("kind")}" in version "{manifest.get("apiVersion")}"')
    return Ref(kind, as_text(at(manifest, ("metadata", "namespace"))), as_text(at(manifest, ("metadata", "name"))))


def query(parameters: Parameters) -> str:
    """As the API server reads it; what is None or empty is left out."""
    told = {name: _word(value) for name, value in parameters.items() if value is not None and value != ""}
    return f"?{urlencode(told)}" if told else ""


def selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _word(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Parts that engine and router Pods have in common."""

from collections.abc import Mapping

from kvpool_api.labels import POOL, ROLE
from kvpool_api.meta import API_VERSION, POOL_KIND
from kvpool_api.pool import InferencePool
from kvpool_api.spec import ResourceRequirements
from pydantic import JsonValue

from kvpool_operator.build.quantities import canonical_quantity

Json = dict[str, JsonValue]


def metadata(pool: InferencePool, name: str, role: str | None = None) -> Json:
    """Name, place, labels and owner of something that the pool owns: it is collected when the pool is deleted."""
    labels: Json = {POOL: pool.metadata.name, "app.kubernetes.io/managed-by": "kvpool"}
    owner: Json = {
        "apiVersion": API_VERSION,
        "kind": POOL_KIND,
        "name": pool.metadata.name,
        "uid": pool.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": pool.metadata.namespace,
        "labels": labels if role is None else {**labels, ROLE: role},
        "ownerReferences": [owner],
    }


def restricted() -> Json:
    """A container's share of the `restricted` Pod Security level."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def unprivileged(user: int) -> Json:
    """A Pod's share of the `restricted` Pod Security level."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(asked: ResourceRequirements) -> Json:
    """Amounts in the API server's own writing ("1024Mi" becomes "1Gi"): else what is read would differ from what was
    asked for at every look, and be mended for ever.
    """
    parts = {"limits": asked.limits, "requests": asked.requests}
    return {part: _canonical(amounts) for part, amounts in parts.items() if amounts}


def field_env(name: str, path: str) -> Json:
    """An environment variable from the Pod's own fields."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def http_probe(path: str, port: str, *, period_s: int, failures: int) -> Json:
    get: Json = {"path": path, "port": port}
    return {"httpGet": get, "periodSeconds": period_s, "timeoutSeconds": 5, "failureThreshold": failures}


def _canonical(amounts: Mapping[str, int | str]) -> Json:
    return {name: canonical_quantity(amount) for name, amount in amounts.items()}

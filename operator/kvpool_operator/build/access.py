"""Who the router is and what it may do: list and watch the Pods of its namespace, nothing else."""

import base64

from kvpool_api.labels import admin_secret_name, router_name
from kvpool_api.pool import InferencePool

from kvpool_operator.build.parts import Json, metadata

_RBAC = "rbac.authorization.k8s.io"
TOKEN_KEY = "token"  # noqa: S105 - a key's name


def service_account(pool: InferencePool) -> Json:
    meta = metadata(pool, router_name(pool.metadata.name))
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


def role(pool: InferencePool) -> Json:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": metadata(pool, router_name(pool.metadata.name)),
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
    }


def role_binding(pool: InferencePool) -> Json:
    name = router_name(pool.metadata.name)
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(pool, name),
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": pool.metadata.namespace}],
    }


def admin_secret(pool: InferencePool, token: str) -> Json:
    """The key to the routers' admin ports."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(pool, admin_secret_name(pool.metadata.name)),
        "type": "Opaque",
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }

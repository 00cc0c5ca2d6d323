"""The router's Deployment."""

from kvpool_api.labels import (
    CONFIG_HASH,
    POOL,
    ROLE,
    ROLE_ROUTER,
    ROUTER_CONTAINER,
    TEMPLATE_HASH,
    admin_secret_name,
    router_name,
    router_selector,
)
from kvpool_api.pool import InferencePool
from kvpool_api.wire import (
    ADMIN_PORT_NAME,
    ADMIN_TOKEN_PATH,
    HTTP_PORT_NAME,
    ROUTER_ADMIN_PORT,
    ROUTER_CONFIG_PATH,
    ROUTER_HTTP_PORT,
)
from pydantic import JsonValue

from kvpool_operator.build.model_files import CACHE_MOUNT, model_files
from kvpool_operator.build.names import digest
from kvpool_operator.build.parts import Json, field_env, http_probe, metadata, resources, restricted, unprivileged
from kvpool_operator.build.router_config import router_config
from kvpool_operator.build.template_merge import merged

ROUTER_USER = 65532
ROUTER_PRE_STOP_S = 5
"""A router that leaves still takes connections this long: until no Service sends it any."""
ROUTER_GRACE_S = 60
SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def router_deployment(pool: InferencePool, default_image: str) -> Json:
    """A changed configuration changes an annotation of the template, and so rolls the routers.

    The Deployment's own annotation tells the template it was made from: what the pool no longer asks for is missing in
    a new template and would not be missed in the live one.
    """
    name = router_name(pool.metadata.name)
    selector: Json = {POOL: pool.metadata.name, ROLE: ROLE_ROUTER}
    config = router_config(pool).model_dump(mode="json")
    built: Json = {
        "metadata": {"labels": selector, "annotations": {CONFIG_HASH: digest(config)}},
        "spec": _pod_spec(pool, default_image),
    }
    template = merged(built, pool.spec.router.pod_template)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata(pool, name, ROLE_ROUTER), "annotations": {TEMPLATE_HASH: digest(template)}},
        "spec": {
            "replicas": pool.spec.router.replicas,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _pod_spec(pool: InferencePool, default_image: str) -> Json:
    name = pool.metadata.name
    volumes: list[JsonValue] = [
        {"name": "config", "configMap": {"name": router_name(name)}},
        {"name": "admin", "secret": {"secretName": admin_secret_name(name)}},
        {"name": "cache", "emptyDir": {}},
        *model_files(pool.spec.model).volumes,
    ]
    return {
        "serviceAccountName": router_name(name),
        "enableServiceLinks": False,
        "securityContext": unprivileged(ROUTER_USER),
        "topologySpreadConstraints": [_spread(name, key) for key in SPREAD_OVER],
        "terminationGracePeriodSeconds": ROUTER_GRACE_S,
        "containers": [_container(pool, default_image)],
        "volumes": volumes,
    }


def _spread(pool: str, topology_key: str) -> Json:
    """Apart if it can be: a router whose map a sibling can replace should not go with it."""
    return {
        "maxSkew": 1,
        "topologyKey": topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {**router_selector(pool)}},
    }


def _container(pool: InferencePool, default_image: str) -> Json:
    files = model_files(pool.spec.model)
    return {
        "name": ROUTER_CONTAINER,
        "image": pool.spec.router.image or default_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config", ROUTER_CONFIG_PATH, "--admin-token-file", ADMIN_TOKEN_PATH],
        "env": [
            field_env("POD_NAME", "metadata.name"),
            field_env("POD_IP", "status.podIP"),
            {"name": "HF_HOME", "value": CACHE_MOUNT},
            *files.env,
        ],
        "ports": [
            {"name": HTTP_PORT_NAME, "containerPort": ROUTER_HTTP_PORT},
            {"name": ADMIN_PORT_NAME, "containerPort": ROUTER_ADMIN_PORT},
        ],
        "resources": resources(pool.spec.router.resources),
        "securityContext": {**restricted(), "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": ROUTER_PRE_STOP_S}}},
        "startupProbe": http_probe("/health", HTTP_PORT_NAME, period_s=2, failures=60),
        "readinessProbe": http_probe("/ready", HTTP_PORT_NAME, period_s=2, failures=2),
        "livenessProbe": http_probe("/health", HTTP_PORT_NAME, period_s=10, failures=6),
        "volumeMounts": [
            {"name": "config", "mountPath": ROUTER_CONFIG_PATH.rpartition("/")[0], "readOnly": True},
            {"name": "admin", "mountPath": ADMIN_TOKEN_PATH.rpartition("/")[0], "readOnly": True},
            {"name": "cache", "mountPath": CACHE_MOUNT},
            *files.mounts,
        ],
    }

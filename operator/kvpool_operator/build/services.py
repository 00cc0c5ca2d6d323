"""The pool's Service: where clients send requests."""

from kvpool_api.labels import router_selector
from kvpool_api.pool import InferencePool
from kvpool_api.wire import HTTP_PORT_NAME

from kvpool_operator.build.parts import Json, metadata

SERVICE_PORT = 80


def pool_service(pool: InferencePool) -> Json:
    port: Json = {"name": HTTP_PORT_NAME, "port": SERVICE_PORT, "targetPort": HTTP_PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(pool, pool.metadata.name),
        "spec": {"selector": {**router_selector(pool.metadata.name)}, "ports": [port]},
    }


def service_url(pool: InferencePool) -> str:
    """Where the Service answers inside a cluster."""
    return f"http://{pool.metadata.name}.{pool.metadata.namespace}.svc"

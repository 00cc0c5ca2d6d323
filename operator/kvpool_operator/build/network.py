"""Who may reach which port. Events carry the token ids of prompts, so only routers may read them."""

from kvpool_api.labels import engine_selector, router_name, router_selector
from kvpool_api.pool import InferencePool
from kvpool_api.wire import ENGINE_HTTP_PORT, ROUTER_ADMIN_PORT, ROUTER_HTTP_PORT
from pydantic import JsonValue

from kvpool_operator.build.parts import Json, metadata

NAMESPACE_NAME = "kubernetes.io/metadata.name"


def engine_policy(pool: InferencePool, metrics_namespace: str) -> Json:
    """Requests from routers, scrapes from the metrics namespace, events to routers alone."""
    name, events = pool.metadata.name, pool.spec.kv_events
    routers: Json = {"podSelector": {"matchLabels": {**router_selector(name)}}}
    ranks = pool.spec.engine.data_parallel_size
    event_ports = [base + rank for base in (events.events_port, events.replay_port) for rank in range(ranks)]
    rules = [
        _rule([routers, _namespace(metrics_namespace)], [ENGINE_HTTP_PORT]),
        _rule([routers], event_ports),
    ]
    return _policy(pool, name, engine_selector(name), rules)


def router_policy(pool: InferencePool, operator_namespace: str) -> Json:
    """Requests from anywhere, the admin port for the operator and sibling routers."""
    name = pool.metadata.name
    siblings: Json = {"podSelector": {"matchLabels": {**router_selector(name)}}}
    rules = [
        _rule([], [ROUTER_HTTP_PORT]),
        _rule([siblings, _namespace(operator_namespace)], [ROUTER_ADMIN_PORT]),
    ]
    return _policy(pool, router_name(name), router_selector(name), rules)


def _rule(peers: list[Json], ports: list[int]) -> Json:
    """Who may reach these ports; a rule without peers lets everybody in, as NetworkPolicy has it."""
    open_ports: list[JsonValue] = [{"protocol": "TCP", "port": port} for port in ports]
    return {"ports": open_ports, **({"from": [*peers]} if peers else {})}


def _namespace(name: str) -> Json:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _policy(pool: InferencePool, name: str, selector: dict[str, str], rules: list[Json]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(pool, name),
        "spec": {"podSelector": {"matchLabels": {**selector}}, "policyTypes": ["Ingress"], "ingress": [*rules]},
    }

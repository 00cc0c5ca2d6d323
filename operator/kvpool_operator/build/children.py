"""All that a pool owns beside its engines."""

from kvpool_api.pool import InferencePool

from kvpool_operator.build.access import role, role_binding, service_account
from kvpool_operator.build.disruption import engine_budget, router_budget
from kvpool_operator.build.network import engine_policy, router_policy
from kvpool_operator.build.parts import Json
from kvpool_operator.build.router_config import config_map
from kvpool_operator.build.router_deployment import router_deployment
from kvpool_operator.build.services import pool_service
from kvpool_operator.settings import Settings


def children(pool: InferencePool, settings: Settings) -> list[Json]:
    """In the order in which they are made; the admin Secret, which is made once, is not among them."""
    return [
        service_account(pool),
        role(pool),
        role_binding(pool),
        config_map(pool),
        pool_service(pool),
        engine_policy(pool, settings.metrics_namespace),
        router_policy(pool, settings.operator_namespace),
        engine_budget(pool),
        router_budget(pool),
        router_deployment(pool, settings.router_image),
    ]

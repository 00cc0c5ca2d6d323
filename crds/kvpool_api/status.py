"""What a pool's status says. Facts that move fast live in metrics and in the router's admin endpoint, not here."""

from typing import Annotated

from pydantic import Field

from kvpool_api.conditions import Condition
from kvpool_api.meta import ApiModel

Count = Annotated[int, Field(ge=0)]


class CacheStatus(ApiModel):
    """Cache facts, rounded; null means unknown, never zero."""

    hit_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Cached over prompt tokens of the last five minutes, as the engines report it; null below 1,000 tokens."""
    predicted_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """The same as the router predicted it when it picked."""
    kv_usage_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Mean share of KV blocks in use."""
    queue: Count | None = None
    """Requests waiting in engines and routers."""
    observed_at: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """When these facts were read."""


class RouterStatus(ApiModel):
    """The pool's door."""

    url: Annotated[str, Field(max_length=1024)] | None = None
    """Where clients send requests."""
    ready_replicas: Count = 0
    """Router Pods that are ready."""


class InferencePoolStatus(ApiModel):
    """What the operator last saw and why it is so."""

    observed_generation: Count = 0
    """metadata.generation that this status speaks about."""
    replicas: Count = 0
    """Engine Pods that exist and are not on their way out."""
    desired_replicas: Count = 0
    """Engine Pods wanted now."""
    ready_replicas: Count = 0
    """Engine Pods that are ready."""
    routable_replicas: Count = 0
    """Engine Pods that routers send requests to."""
    outdated_replicas: Count = 0
    """Engine Pods made from an older template, or by an older operator."""
    selector: Annotated[str, Field(max_length=1024)] = ""
    """Label selector of the engine Pods, for the scale subresource."""
    cache: CacheStatus = CacheStatus()
    """Cache facts."""
    router: RouterStatus = RouterStatus()
    """The pool's door."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = []
    """All conditions of the pool."""

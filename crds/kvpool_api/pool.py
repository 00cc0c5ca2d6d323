"""An InferencePool as an object."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kvpool_api.meta import API_VERSION, ApiModel
from kvpool_api.spec import InferencePoolSpec
from kvpool_api.status import InferencePoolStatus


class ObjectMeta(ApiModel):
    """The part of metadata that kvpool reads; the rest passes unread."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(max_length=253)]
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class InferencePool(ApiModel):
    """`kubectl get inferencepools.kvpool.dev -o yaml`, typed."""

    api_version: Literal["kvpool.dev/v1alpha1"] = API_VERSION
    kind: Literal["InferencePool"] = "InferencePool"
    metadata: ObjectMeta
    spec: InferencePoolSpec
    status: InferencePoolStatus = InferencePoolStatus()

"""Conditions of a pool, and the reason that condition, Event, log line and trace share."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kvpool_api.meta import ApiModel


class ConditionType(StrEnum):
    """All of them stand in status from the first visit on."""

    ACCEPTED = "Accepted"
    WORKLOAD_READY = "WorkloadReady"
    ROUTER_READY = "RouterReady"
    KV_EVENTS_FLOWING = "KVEventsFlowing"
    SCALING_ACTIVE = "ScalingActive"
    PAUSED = "Paused"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    READY = "Ready"


ConditionStatus = Literal["True", "False", "Unknown"]


class Reason(ApiModel):
    """Why something is so or was done: a CamelCase word for machines, a sentence for people."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
    message: Annotated[str, Field(max_length=1024)] = ""


class Condition(ApiModel):
    """A metav1.Condition."""

    model_config = ConfigDict(
        json_schema_extra={"required": ["type", "status", "lastTransitionTime", "reason", "message"]}
    )

    type: Annotated[str, Field(max_length=316, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """CamelCase name, one entry a type."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """metadata.generation that this condition speaks about."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When the status last flipped."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """CamelCase word, the first cause."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people: what, why and the mend."""

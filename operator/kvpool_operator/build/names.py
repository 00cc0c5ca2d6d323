"""Names and hashes of engine Pods."""

import hashlib
import json

from kvpool_api.pool import InferencePool
from pydantic import JsonValue

_HASH_LENGTH = 8


def applied_template(pool: InferencePool) -> dict[str, JsonValue]:
    """The part of the spec that an engine Pod is made from: a change here replaces engines, any other does not."""
    spec = pool.spec
    return {
        "model": spec.model.model_dump(mode="json", by_alias=True, exclude_none=True),
        "engine": spec.engine.model_dump(mode="json", by_alias=True, exclude_none=True),
        "resources": spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True),
        "kvEvents": {"eventsPort": spec.kv_events.events_port, "replayPort": spec.kv_events.replay_port},
        "drain": {
            "preStopSeconds": spec.drain.pre_stop_seconds,
            "shutdownTimeoutSeconds": spec.drain.shutdown_timeout_seconds,
        },
        "podTemplate": spec.pod_template.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def canonical(value: JsonValue) -> str:
    """One text for one JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: JsonValue) -> str:
    """A short hash, fit for a label and a name."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:_HASH_LENGTH]


def template_hash(pool: InferencePool, builder_revision: str) -> str:
    return digest({"template": applied_template(pool), "builder": builder_revision})


def engine_name(pool: str, hash_of_template: str, slot: int) -> str:
    """Deterministic, so that two operators that are alive at once make one Pod, not two."""
    return f"{pool}-{hash_of_template}-{slot}"

"""Names and hashes of engine Pods."""

import hashlib
import json

from kvpool_api.pool import InferencePool
from pydantic import JsonValue

from kvpool_operator.build.applied_template import AppliedTemplate

_HASH_LENGTH = 8


def canonical(value: JsonValue) -> str:
    """One text for one JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: JsonValue) -> str:
    """A short hash, fit for a label and a name."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:_HASH_LENGTH]


def template_hash(pool: InferencePool, builder_revision: str) -> str:
    return digest({"template": AppliedTemplate.of(pool).as_json(), "builder": builder_revision})


def engine_name(pool: str, hash_of_template: str, slot: int) -> str:
    """Deterministic, so that two operators that are alive at once make one Pod, not two."""
    return f"{pool}-{hash_of_template}-{slot}"

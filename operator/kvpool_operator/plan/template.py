"""Whether an engine is made as the pool now asks, and what is different if not."""

import json
from collections.abc import Iterator

from kvpool_api.conditions import Reason
from kvpool_api.manifest import as_map
from kvpool_api.pool import InferencePool
from kvpool_api.spec import OperatorUpgradePolicy
from pydantic import JsonValue

from kvpool_operator.build.names import applied_template, canonical
from kvpool_operator.observed import Engine
from kvpool_operator.plan.actions import because

_NAMED = 4


def outdated(pool: InferencePool, engine: Engine, builder_revision: str) -> Reason | None:
    """Why the engine has to be replaced, or None."""
    wanted = applied_template(pool)
    if engine.applied_template != canonical(wanted):
        changed = list(differences(_parsed(engine.applied_template), wanted))
        return because("TemplateChanged", "; ".join(changed[:_NAMED]) or "the engine was made by other means")
    policy = pool.spec.rollout.on_operator_upgrade
    if policy is OperatorUpgradePolicy.ROLL and engine.builder_revision != builder_revision:
        return because("OperatorUpgraded", f"built by revision {engine.builder_revision}, now {builder_revision}")
    return None


def differences(old: JsonValue, new: JsonValue, path: str = "spec") -> Iterator[str]:
    """Each changed field, with its old and new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}")
    elif old != new:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _shown(value: JsonValue) -> str:
    limit = 60
    text = "unset" if value is None else canonical(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _parsed(text: str) -> JsonValue:
    try:
        return as_map(json.loads(text))
    except ValueError:
        return {}

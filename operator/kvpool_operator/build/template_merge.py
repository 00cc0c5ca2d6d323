"""The pool's podTemplate over the Pod that the operator builds: maps by key, lists of named things by name."""

from kvpool_api.spec import PodTemplate
from pydantic import JsonValue

from kvpool_operator.build.parts import Json

_KEYS = ("mountPath", "containerPort", "name", "conditionType")
"""What identifies an item, in order of preference; lists whose items have none of them are replaced whole."""


def merged(built: Json, template: PodTemplate) -> Json:
    """The Pod as it is created."""
    over: Json = {
        "metadata": {"labels": {**template.metadata.labels}, "annotations": {**template.metadata.annotations}},
        "spec": template.spec,
    }
    return _maps(built, over)


def _maps(base: Json, over: Json) -> Json:
    result = dict(base)
    for key, value in over.items():
        result[key] = _values(base[key], value) if key in base else value
    return result


def _values(base: JsonValue, over: JsonValue) -> JsonValue:
    if isinstance(base, dict) and isinstance(over, dict):
        return _maps(base, over)
    if isinstance(base, list) and isinstance(over, list):
        return _lists(base, over)
    return over


def _lists(base: list[JsonValue], over: list[JsonValue]) -> list[JsonValue]:
    key = _key_of(base, over)
    if key is None:
        return over
    items = {_identity(item, key): item for item in base}
    for item in over:
        known = items.get(_identity(item, key))
        items[_identity(item, key)] = item if known is None else _values(known, item)
    return list(items.values())


def _key_of(*lists: list[JsonValue]) -> str | None:
    items = [item for each in lists for item in each]
    return next((key for key in _KEYS if items and all(isinstance(item, dict) and key in item for item in items)), None)


def _identity(item: JsonValue, key: str) -> str:
    return str(item[key]) if isinstance(item, dict) else ""

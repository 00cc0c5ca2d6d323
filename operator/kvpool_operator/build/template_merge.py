"""A podTemplate of the pool over the Pod that the operator builds: maps by key, lists of named things by name.

A null takes a field away; a list whose items have no name (arguments, tolerations) is replaced whole.
"""

from kvpool_api.manifest import as_map
from kvpool_api.spec import PodTemplate
from pydantic import JsonValue

from kvpool_operator.build.parts import Json

_KEYS = ("mountPath", "containerPort", "name", "conditionType")
"""A list merges by the first of these that all its items have; mounts have a name too, but several may share it."""


def merged(built: Json, template: PodTemplate) -> Json:
    """The Pod as it is created: what the pool's author wrote wins over what was built, field by field."""
    over: Json = {
        "metadata": {"labels": {**template.metadata.labels}, "annotations": {**template.metadata.annotations}},
        "spec": template.spec,
    }
    return _maps(built, over)


def by_name(*items: Json) -> list[JsonValue]:
    """The items without repeated names: a later item takes the place of an earlier one of its name.

    So defaults come first and the pool's own variables after them, as a kubelet too lets the last one count.
    """
    return [*{str(item["name"]): item for item in items}.values()]


def _maps(base: Json, over: Json) -> Json:
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _values(base.get(key), value)
    return result


def _values(base: JsonValue, over: JsonValue) -> JsonValue:
    if isinstance(over, dict):
        return _maps(as_map(base), over)
    if isinstance(base, list) and isinstance(over, list):
        return _lists(base, over)
    return over


def _lists(base: list[JsonValue], over: list[JsonValue]) -> list[JsonValue]:
    key = _key_of(*base, *over)
    if key is None:
        return over
    items = {str(as_map(item)[key]): item for item in base}
    for item in over:
        identity = str(as_map(item)[key])
        items[identity] = _values(items.get(identity), item)
    return list(items.values())


def _key_of(*items: JsonValue) -> str | None:
    return next((key for key in _KEYS if items and all(key in as_map(item) for item in items)), None)

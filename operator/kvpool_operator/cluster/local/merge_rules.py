"""Which lists of an object merge by key, which are sets, and which maps are replaced whole; all other lists are atomic.

Taken from the list types that the Kubernetes API reference states for the kinds that a pool is made of, and from the
pool's own schema. Paths name fields only: `spec.containers.env` is the env list of any container.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvpool_operator.cluster import seam

FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListKey:
    """Fields that identify an item of a list, and what the API fills in where one is left out."""

    fields: tuple[str, ...]
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MergeRules:
    """How the objects of one kind merge."""

    keyed: Mapping[FieldPath, ListKey]
    sets: frozenset[FieldPath]
    atomic: frozenset[FieldPath]


def rules_for(kind: seam.Kind) -> MergeRules:
    return _RULES.get(kind, _COMMON)


def _path(dotted: str) -> FieldPath:
    return tuple(dotted.split("."))


def _under(prefix: str, keyed: Mapping[str, ListKey]) -> dict[FieldPath, ListKey]:
    return {_path(f"{prefix}.{path}"): key for path, key in keyed.items()}


_NAME = ListKey(("name",))
_TYPE = ListKey(("type",))
_METADATA = {"ownerReferences": ListKey(("uid",))}
_STATUS = {"conditions": _TYPE}

_CONTAINER = {
    "env": _NAME,
    "volumeMounts": ListKey(("mountPath",)),
    "volumeDevices": ListKey(("devicePath",)),
    "ports": ListKey(("containerPort", "protocol"), {"protocol": "TCP"}),
}
_POD_SPEC = {
    "volumes": _NAME,
    "imagePullSecrets": _NAME,
    "schedulingGates": _NAME,
    "resourceClaims": _NAME,
    "hostAliases": ListKey(("ip",)),
    "topologySpreadConstraints": ListKey(("topologyKey", "whenUnsatisfiable")),
    "containers": _NAME,
    "initContainers": _NAME,
    **{f"containers.{path}": key for path, key in _CONTAINER.items()},
    **{f"initContainers.{path}": key for path, key in _CONTAINER.items()},
}
_VALUE_SOURCES = ("configMapKeyRef", "fieldRef", "resourceFieldRef", "secretKeyRef")


def _pod_atomic(prefix: str) -> frozenset[FieldPath]:
    in_env = (
        f"{prefix}.{part}.env.valueFrom.{source}"
        for part in ("containers", "initContainers")
        for source in _VALUE_SOURCES
    )
    return frozenset(map(_path, (f"{prefix}.nodeSelector", *in_env)))


def _rules(keyed: Mapping[FieldPath, ListKey] | None = None, atomic: frozenset[FieldPath] = frozenset()) -> MergeRules:
    common = {**_under("metadata", _METADATA), **_under("status", _STATUS)}
    return MergeRules({**common, **(keyed or {})}, frozenset({("metadata", "finalizers")}), atomic)


_COMMON = _rules()
_RULES = {
    seam.POD: _rules(
        {**_under("spec", _POD_SPEC), **_under("status", {"podIPs": ListKey(("ip",))})}, _pod_atomic("spec")
    ),
    seam.DEPLOYMENT: _rules(
        {**_under("spec.template.spec", _POD_SPEC), **_under("spec.template.metadata", _METADATA)},
        _pod_atomic("spec.template.spec") | {_path("spec.selector")},
    ),
    seam.SERVICE: _rules(
        _under("spec", {"ports": ListKey(("port", "protocol"), {"protocol": "TCP"})}),
        frozenset({_path("spec.selector")}),
    ),
    seam.SERVICE_ACCOUNT: _rules({("secrets",): _NAME}),
    seam.DISRUPTION_BUDGET: _rules(atomic=frozenset({_path("spec.selector")})),
    seam.NETWORK_POLICY: _rules(atomic=frozenset({_path("spec.podSelector")})),
    seam.POOL: _rules(_under("spec", {"engine.env": _NAME})),
}

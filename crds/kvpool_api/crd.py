"""The CustomResourceDefinition of InferencePool, generated from the models. `python -m kvpool_api.crd` prints it."""

import sys
from collections.abc import Iterable
from typing import Final

import yaml
from pydantic import JsonValue

from kvpool_api.manifest import Manifest, as_list, as_map
from kvpool_api.meta import GROUP, POOL_KIND, POOL_PLURAL, POOL_RESOURCE, VERSION
from kvpool_api.rules import Rule, rules
from kvpool_api.schema import structural_schema
from kvpool_api.spec import InferencePoolSpec
from kvpool_api.status import InferencePoolStatus

HEADER: Final = "# Generated from kvpool_api by `make generate`; change the models, not this file.\n"


def custom_resource_definition() -> Manifest:
    """The object that `kubectl apply` takes; anew at each call."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": POOL_RESOURCE, "labels": {"app.kubernetes.io/name": "kvpool"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": POOL_KIND,
                "listKind": f"{POOL_KIND}List",
                "plural": POOL_PLURAL,
                "singular": POOL_KIND.lower(),
                "shortNames": ["kvp"],
                "categories": ["kvpool"],
            },
            "versions": [_version()],
        },
    }


def render() -> str:
    """The definition as YAML text, byte for byte the same for the same models."""
    return HEADER + yaml.dump(
        custom_resource_definition(), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True
    )


def _version() -> Manifest:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _with_rules(_object_schema(), rules())},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "selectableFields": [{"jsonPath": ".spec.model.name"}],
        "additionalPrinterColumns": list(_columns()),
    }


def _object_schema() -> Manifest:
    return {
        "description": "A pool of vLLM engines that serve one model behind a cache-aware router.",
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {
                "description": "Version of this schema.",
                "type": "string",
                "maxLength": 63,
            },
            "kind": {"description": "Name of this schema.", "type": "string", "maxLength": 63},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": structural_schema(InferencePoolSpec),
            "status": structural_schema(InferencePoolStatus, for_status=True),
        },
    }


def _columns() -> Iterable[Manifest]:
    ready = ".status.conditions[?(@.type=='Ready')]"
    rows = (
        ("MODEL", "string", ".spec.model.name", "The model that the pool serves.", 0),
        ("READY", "integer", ".status.readyReplicas", "Engine Pods that are ready.", 0),
        ("DESIRED", "integer", ".status.desiredReplicas", "Engine Pods wanted now.", 0),
        ("HIT%", "integer", ".status.cache.hitPercent", "Cached over prompt tokens of the last five minutes.", 0),
        ("QUEUE", "integer", ".status.cache.queue", "Requests that wait.", 0),
        ("WHY", "string", f"{ready}.reason", "First cause of the Ready condition.", 0),
        ("AGE", "date", ".metadata.creationTimestamp", "Time since the pool was made.", 0),
        ("PREDICTED%", "integer", ".status.cache.predictedPercent", "Hit rate as the router predicted it.", 1),
        ("KV%", "integer", ".status.cache.kvUsagePercent", "Mean share of KV blocks in use.", 1),
        ("ROUTER URL", "string", ".status.router.url", "Where clients send requests.", 1),
    )
    for name, kind, path, description, priority in rows:
        shown_wide: Manifest = (
            {"priority": priority} if priority else {}
        )  # API servers drop a 0: it would differ for ever
        yield {"name": name, "type": kind, "description": description, "jsonPath": path, **shown_wide}


def _with_rules(schema: Manifest, table: Iterable[Rule]) -> Manifest:
    """The schema, each rule written at its node. Raises KeyError for a rule whose path the schema does not have."""
    for rule in table:
        node = schema_at(schema, rule.path)
        as_list(node.setdefault("x-kubernetes-validations", [])).append(_validation(rule))
    return schema


def schema_at(schema: Manifest, path: str) -> Manifest:
    """The schema's node at a rule's path. Raises KeyError where there is none."""
    node = schema
    for name in path.replace("[]", ".[]").split(".") if path else ():
        node = as_map(node["items"]) if name == "[]" else as_map(as_map(node["properties"])[name])
    return node


def _validation(rule: Rule) -> Manifest:
    validation: Manifest = {"rule": rule.expression, "message": rule.message, "reason": rule.reason}
    return {**validation, "fieldPath": rule.field} if rule.field else validation


class _PlainDumper(yaml.SafeDumper):
    """Without anchors: a reader (and a strict parser) sees each value where it stands."""

    def ignore_aliases(self, data: JsonValue) -> bool:
        return True


if __name__ == "__main__":
    sys.stdout.write(render())

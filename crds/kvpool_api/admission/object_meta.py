"""What every object's metadata may hold (apimachinery's ObjectMeta), which no CustomResourceDefinition says.

An API server refuses a wrong type here while it decodes, with Go's words about a struct field; here it is found and
worded as any other wrong type is.
"""

from typing import Final

from pydantic import JsonValue

from kvpool_api.admission.node import read_node

TEXT: Final[JsonValue] = {"type": "string", "nullable": True}
NUMBER: Final[JsonValue] = {"type": "integer", "nullable": True}
TEXTS: Final[JsonValue] = {"type": "object", "nullable": True, "additionalProperties": TEXT}

OBJECT_META: Final = read_node(
    {
        "type": "object",
        "properties": {
            "annotations": TEXTS,
            "creationTimestamp": TEXT,
            "deletionGracePeriodSeconds": NUMBER,
            "deletionTimestamp": TEXT,
            "finalizers": {"type": "array", "nullable": True, "items": TEXT},
            "generateName": TEXT,
            "generation": NUMBER,
            "labels": TEXTS,
            "managedFields": {"type": "array", "nullable": True},
            "name": TEXT,
            "namespace": TEXT,
            "ownerReferences": {"type": "array", "nullable": True},
            "resourceVersion": TEXT,
            "selfLink": TEXT,
            "uid": TEXT,
        },
    }
)

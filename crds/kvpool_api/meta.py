"""Group, version, names, and the base of every model in the API."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "kvpool.dev"
VERSION = "v1alpha1"
API_VERSION: Final[Literal["kvpool.dev/v1alpha1"]] = "kvpool.dev/v1alpha1"
POOL_KIND = "InferencePool"
POOL_PLURAL = "inferencepools"
POOL_RESOURCE = f"{POOL_PLURAL}.{GROUP}"
"""How docs, hints and errors name the resource: another API group owns a plain `inferencepools`."""


class ApiModel(BaseModel):
    """An immutable part of the API, camelCase on the wire; unknown fields are errors, not silence."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

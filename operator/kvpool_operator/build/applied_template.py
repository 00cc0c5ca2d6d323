"""The part of a pool's spec that an engine Pod is made from: a change of it replaces engines, any other does not.

It stands on each engine as an annotation, so that a replacement can say which field changed. Read back, a field that
the engine's release did not have yet takes its default, and one that this release no longer knows is dropped: a new
release by itself replaces no engine.
"""

import json
from typing import Self

from kvpool_api.manifest import Manifest, as_map
from kvpool_api.meta import ApiModel
from kvpool_api.pool import InferencePool
from kvpool_api.spec import CpuOffload, EngineSpec, ModelSpec, PodTemplate, ResourceRequirements
from pydantic import JsonValue, ValidationError

from kvpool_operator.build.parts import resources
from kvpool_operator.build.quantities import canonical_quantity


class EventPorts(ApiModel):
    """The share of `kvEvents` that engines know."""

    events_port: int
    replay_port: int


class Farewell(ApiModel):
    """The share of `drain` that engines know."""

    pre_stop_seconds: int
    shutdown_timeout_seconds: int


class AppliedTemplate(ApiModel):
    """What one engine was made from, by the names that the spec has for it."""

    model: ModelSpec
    engine: EngineSpec
    resources: ResourceRequirements
    kv_events: EventPorts
    drain: Farewell
    pod_template: PodTemplate

    @classmethod
    def of(cls, pool: InferencePool) -> Self:
        spec = pool.spec
        return cls(
            model=spec.model,
            engine=_canonical(spec.engine),
            resources=ResourceRequirements.model_validate(resources(spec.resources)),
            kv_events=EventPorts(events_port=spec.kv_events.events_port, replay_port=spec.kv_events.replay_port),
            drain=Farewell(
                pre_stop_seconds=spec.drain.pre_stop_seconds,
                shutdown_timeout_seconds=spec.drain.shutdown_timeout_seconds,
            ),
            pod_template=spec.pod_template,
        )

    @classmethod
    def read(cls, annotation: str) -> Self | None:
        """The template that an annotation holds; None where it holds none."""
        try:
            told = as_map(json.loads(annotation))
            return cls.model_validate(_without_unknown(cls, told))
        except ValueError:  # of JSON, and of pydantic
            return None

    def as_json(self) -> Manifest:
        """What is compared and hashed, without fields that are not set: so a new optional field rolls nothing.

        In podTemplate a null is a wish (it takes a field away), so there it stays.
        """
        told: Manifest = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"pod_template"})
        return {**told, "podTemplate": self.pod_template.model_dump(mode="json", by_alias=True)}


def _canonical(engine: EngineSpec) -> EngineSpec:
    """The same with its amount as the API server writes it, so that another writing of it rolls nothing."""
    told = engine.cpu_offload
    if told is None:
        return engine
    return engine.model_copy(update={"cpu_offload": CpuOffload(size=canonical_quantity(told.size))})


def _without_unknown(model: type[ApiModel], told: Manifest) -> Manifest:
    try:
        model.model_validate(told)
    except ValidationError as error:
        for each in error.errors():
            if each["type"] == "extra_forbidden":
                told = as_map(_without_path(told, each["loc"]))
    return told


def _without_path(value: JsonValue, path: tuple[int | str, ...]) -> JsonValue:
    key, *rest = path
    if isinstance(value, list):
        return [_without_path(each, tuple(rest)) if place == key else each for place, each in enumerate(value)]
    kept = {name: each for name, each in as_map(value).items() if rest or name != key}
    return {name: _without_path(each, tuple(rest)) if name == key else each for name, each in kept.items()}

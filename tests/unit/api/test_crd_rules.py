"""Every CEL rule accepts what it should and refuses what it should, at the field and with the message it names."""

import re
from dataclasses import dataclass

import pytest
from kvpool_api.crd import custom_resource_definition
from kvpool_api.manifest import Manifest, as_map
from kvpool_api.rules import REFUSED_ARGUMENTS, RefusedArgument, rules
from kvpool_api.spec import GPU_RESOURCES
from kvpool_api.validation import Admission, Invalid
from pydantic import JsonValue


@dataclass(frozen=True)
class Example:
    """A spec that a rule refuses (one field, one message) beside its neighbour that no rule refuses."""

    message: str
    field: str
    refused: Manifest
    accepted: Manifest
    name: str = "qwen"


def limits(**named: JsonValue) -> Manifest:
    return {"resources": {"limits": {"nvidia.com/gpu": 8, **named}}}


def engine(**fields: JsonValue) -> Manifest:
    return {"engine": fields}


def source(**members: JsonValue) -> Manifest:
    return {"model": {"name": "m", "source": members}}


def nested(path: str, value: Manifest) -> Manifest:
    for name in reversed(path.split(".")[1:]):
        value = {name: value}
    return value


EXAMPLES = [
    Example("set exactly one of hub", "spec.model.source", source(hub={}, path="/models/m"), source(path="/models/m")),
    Example("give the folder itself", "spec.model.source.path", source(path="/models/.."), source(path="/models/..m")),
    Example(
        "give the folder relative",
        "spec.model.source.persistentVolumeClaim.path",
        source(persistentVolumeClaim={"claimName": "weights", "path": "/m"}),
        source(persistentVolumeClaim={"claimName": "weights", "path": "a/m"}),
    ),
    Example(
        "give the folder relative",
        "spec.model.source.image.path",
        source(image={"reference": "registry.example/m:1", "path": "a/../../m"}),
        source(image={"reference": "registry.example/m:1", "path": ""}),
    ),
    Example(
        "model.name is always served",
        "spec.model.servedNames",
        {"model": {"name": "m", "servedNames": ["a", "m"]}},
        {"model": {"name": "m", "servedNames": ["a", "M"]}},
    ),
    Example("must be a power of two", "spec.engine.blockSize", engine(blockSize=48), engine(blockSize=64)),
    Example(
        "set exactly one of value and valueFrom",
        "spec.engine.env[1]",
        engine(env=[{"name": "A", "value": ""}, {"name": "B"}]),
        engine(env=[{"name": "A", "value": ""}]),
    ),
    Example(
        "POD_NAME and POD_IP are set by the operator",
        "spec.engine.env[0].name",
        engine(env=[{"name": "POD_IP", "value": "1"}]),
        engine(env=[{"name": "MY_POD_IP", "value": "1"}]),
    ),
    Example(
        "VLLM_API_KEY would part the engine",
        "spec.engine.env[0].name",
        engine(env=[{"name": "VLLM_API_KEY", "value": "1"}]),
        engine(env=[{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]),
    ),
    Example(
        "set exactly one of secretKeyRef and configMapKeyRef",
        "spec.engine.env[0].valueFrom",
        engine(env=[{"name": "A", "valueFrom": {}}]),
        engine(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
    ),
    *(
        Example(
            "a resource is named like",
            f"{path}.{part}",
            nested(path, {part: {"c pu": 1}}),
            nested(path, {part: {"cpu": "1500m"}}),
        )
        for path in ("spec.resources", "spec.router.resources")
        for part in ("limits", "requests")
    ),
    Example(
        "come in whole numbers",
        "spec.router.resources.limits",
        nested("spec.router.resources", {"limits": {"x.y/z": "1.5"}}),
        nested("spec.router.resources", {"limits": {"x.y/z": "2"}}),
    ),
    Example("come in whole numbers", "spec.resources.limits", limits(**{"x.y/z": "1.5"}), limits(**{"x.y/z": "2"})),
    Example(
        "requested as they are limited",
        "spec.resources.requests",
        {"resources": {"limits": {"amd.com/gpu": 2}, "requests": {"amd.com/gpu": 1}}},
        {"resources": {"limits": {"amd.com/gpu": 2}, "requests": {"amd.com/gpu": "2", "cpu": 1}}},
    ),
    Example(
        "requested as they are limited",
        "spec.router.resources.requests",
        {"router": {"resources": {"requests": {"x.y/z": 1}}}},
        {"router": {"resources": {"limits": {"x.y/z": 1}, "requests": {"x.y/z": 1}}}},
    ),
    *(
        Example(
            f"make the limit of {gpu} a multiple of it",
            "spec.engine.dataParallelSize",
            {"resources": {"limits": {gpu: 8}}} | engine(dataParallelSize=3),
            {"resources": {"limits": {gpu: "8"}}} | engine(dataParallelSize=4),
        )
        for gpu in GPU_RESOURCES
    ),
    *(
        Example(
            f"must equal the limit of {gpu}",
            "spec.engine.tensorParallelSize",
            {"resources": {"limits": {gpu: 8}}} | engine(tensorParallelSize=4),
            {"resources": {"limits": {gpu: "8"}}} | engine(tensorParallelSize=4, dataParallelSize=2),
        )
        for gpu in GPU_RESOURCES
    ),
    Example(
        "must equal the limit of nvidia.com/gpu",
        "spec.engine.tensorParallelSize",
        limits() | engine(tensorParallelSize=4, args=["--max-model-len=9"]),
        limits() | engine(tensorParallelSize=4, args=["--pipeline-parallel-size", "2"]),
    ),
    *(
        Example(
            "0 GPUs leave this image of vLLM nothing to run on",
            "spec.resources.limits",
            {"resources": {"limits": {"nvidia.com/gpu": none}}} | engine(image=image),
            {"resources": {"limits": {"nvidia.com/gpu": none}}} | engine(image="vllm/vllm-openai-cpu:v0.32.0"),
        )
        for none, image in ((0, "vllm/vllm-openai:v0.32.0"), ("0", "docker.io/vllm/vllm-openai@sha256:00"))
    ),
    Example(
        "tensorParallelSize cannot be derived",
        "spec.engine.tensorParallelSize",
        limits() | engine(args=["-pp=2"]),
        limits() | engine(args=["-pp=2"], tensorParallelSize=4),
    ),
    Example(
        "keep them at least dataParallelSize apart",
        "spec.kvEvents.replayPort",
        {"kvEvents": {"eventsPort": 6000, "replayPort": 6003}} | engine(dataParallelSize=4),
        {"kvEvents": {"eventsPort": 6000, "replayPort": 6004}} | engine(dataParallelSize=4),
    ),
    Example(
        "the engine serves HTTP on 8000",
        "spec.kvEvents.eventsPort",
        {"kvEvents": {"eventsPort": 7997}} | engine(dataParallelSize=4),
        {"kvEvents": {"eventsPort": 7996}} | engine(dataParallelSize=4),
    ),
    Example(
        "the engine serves HTTP on 8000",
        "spec.kvEvents.replayPort",
        {"kvEvents": {"replayPort": 8000}},
        {"kvEvents": {"replayPort": 8001}},
    ),
    Example(
        "may not both be 0",
        "spec.rollout",
        {"rollout": {"maxSurge": 0, "maxUnavailable": 0}},
        {"rollout": {"maxSurge": 0, "maxUnavailable": 1}},
    ),
    Example(
        "keys under kvpool.dev/ belong to the operator",
        "spec.podTemplate.metadata.labels",
        {"podTemplate": {"metadata": {"labels": {"kvpool.dev/pool": "x"}}}},
        {"podTemplate": {"metadata": {"labels": {"team": "x"}}}},
    ),
    Example(
        "keys under kvpool.dev/ belong to the operator",
        "spec.podTemplate.metadata.annotations",
        {"podTemplate": {"metadata": {"annotations": {"kvpool.dev/draining": "x"}}}},
        {"podTemplate": {"metadata": {"annotations": {"example.kvpool.dev/x": "x"}}}},
    ),
    Example(
        "a key is a name of letters",
        "spec.podTemplate.metadata.labels",
        {"podTemplate": {"metadata": {"labels": {"a b": "x"}}}},
        {"podTemplate": {"metadata": {"labels": {"example.org/a_b": "x"}}}},
    ),
    Example(
        "a key is a name of letters",
        "spec.podTemplate.metadata.annotations",
        {"podTemplate": {"metadata": {"annotations": {f"{'a' * 300}": "x"}}}},
        {"podTemplate": {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}}},
    ),
    Example("shorten it", "metadata.name", {}, {}, name="a" * 41),
    Example("beginning with a letter", "metadata.name", {}, {}, name="4-gpus"),
]


def pool(spec: Manifest, name: str = "qwen") -> Manifest:
    return {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"model": {"name": "m"}, **spec},
    }


@pytest.fixture(scope="module")
def admission() -> Admission:
    return Admission(custom_resource_definition())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.field}-{each.message}")
def test_a_rule_refuses_with_its_message_at_its_field_and_accepts_the_neighbour(
    admission: Admission, example: Example
) -> None:
    with pytest.raises(Invalid) as caught:
        admission.admit(pool(example.refused, example.name))
    (error,) = caught.value.errors
    assert error.path == example.field
    assert example.message in error.message
    admission.admit(pool(example.accepted))


def test_every_rule_has_an_example() -> None:
    arguments = {each.message for each in REFUSED_ARGUMENTS}
    bare = [rule for rule in rules() if rule.message not in arguments and "oldSelf" not in rule.expression]
    for rule in bare:
        field = f"{rule.path}{rule.field}".removeprefix(".")
        assert any(each.message in rule.message and re.sub(r"\d", "", each.field) == field for each in EXAMPLES), rule


def forms(argument: RefusedArgument) -> list[str]:
    """The ways in which `vllm serve` takes the flag: with a value behind `=`, with underscores, in short, negated."""
    flag = argument.flag.replace("*", "x")
    long = [flag, f"{flag}=1", flag.replace("-", "_").replace("__", "--", 1)]
    short = [f"-{argument.short}", f"-{argument.short}=2"] if argument.short.isalpha() else []
    negated = [flag.replace("--", "--no-", 1)] if "(no-)" in argument.pattern else []
    return [*long, *short, *negated]


@pytest.mark.parametrize("argument", REFUSED_ARGUMENTS, ids=lambda each: each.flag)
def test_an_argument_that_the_operator_owns_is_refused_in_every_form(
    admission: Admission, argument: RefusedArgument
) -> None:
    for form in forms(argument):
        with pytest.raises(Invalid) as caught:
            admission.admit(pool(engine(args=["--enforce-eager", form])))
        assert str(caught.value).endswith(f"spec.engine.args: Forbidden: {argument.message}"), form


@pytest.mark.parametrize(
    "flag",
    [
        "--kv-events",
        "--served-model",
        "--tensor-parallel",
        "--data-parallel-rank=1",
        "-dpl",
        "--kv-events-config.topic",
    ],
)
def test_an_abbreviation_or_a_part_of_an_owned_argument_is_refused(admission: Admission, flag: str) -> None:
    with pytest.raises(Invalid, match="Forbidden"):
        admission.admit(pool(engine(args=[flag, "1"])))


def test_arguments_that_only_look_alike_are_accepted(admission: Admission) -> None:
    mine = [
        "--chat-template-content-format=openai",
        "--model-impl",
        "auto",
        "--kv-cache-dtype=fp8",
        "--max-model-len",
        "8192",
        "-O3",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override=512",
    ]
    admitted = admission.admit(pool(engine(args=mine)))
    assert as_map(as_map(admitted["spec"])["engine"])["args"] == mine


def test_the_model_of_a_pool_never_changes_but_all_else_may(admission: Admission) -> None:
    old = admission.admit(pool({}))
    with pytest.raises(Invalid, match=r'spec\.model\.name: Invalid value: "other": a pool serves one model for life'):
        admission.admit(pool({"model": {"name": "other"}}), old)
    admission.admit(pool({"model": {"name": "m", "servedNames": ["n"]}, "replicas": 7}), old)


def test_messages_say_what_to_do_and_end_without_a_stop() -> None:
    for rule in rules():
        assert 15 < len(rule.message) < 160, rule
        assert not rule.message.endswith("."), rule

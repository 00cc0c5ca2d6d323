"""A refused spec and its accepted neighbour for every CEL rule: for the local admission, and for a real API server."""

from dataclasses import dataclass

from kvpool_api.manifest import Manifest
from kvpool_api.spec import GPU_RESOURCES
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
    *(
        Example(
            "give an amount of memory such as 64Gi, at least 1Mi",
            "spec.engine.cpuOffload.size",
            {"resources": {"limits": {"memory": "2Gi"}}} | engine(cpuOffload={"size": size}),
            {"resources": {"limits": {"memory": "2Gi"}}} | engine(cpuOffload={"size": "1Mi"}),
        )
        for size in (0, 64, "1048575", "500m")
    ),
    *(
        Example(
            "offloaded blocks lie in the Pod's own memory",
            "spec.engine.cpuOffload",
            {"resources": {"limits": {"nvidia.com/gpu": 1}, **memory}} | engine(cpuOffload={"size": "64Gi"}),
            {"resources": {"limits": {"nvidia.com/gpu": 1}, **enough}} | engine(cpuOffload={"size": "64Gi"}),
        )
        for memory, enough in (
            ({}, {"requests": {"memory": "96Gi"}}),
            ({"requests": {"memory": "64Gi"}}, {"requests": {"memory": "65Gi"}}),
        )
    ),
    Example(
        "offloaded blocks lie in the Pod's own memory",
        "spec.engine.cpuOffload",
        {"resources": {"limits": {"memory": "96Gi"}, "requests": {"memory": "32Gi"}}}
        | engine(cpuOffload={"size": "64Gi"}),
        {"resources": {"limits": {"memory": "96Gi"}}} | engine(cpuOffload={"size": 68719476736}),
    ),
    Example(
        "both name vLLM's KV connector",
        "spec.engine.args",
        {"resources": {"limits": {"memory": "96Gi"}}}
        | engine(cpuOffload={"size": "64Gi"}, args=["--kv_transfer_config", "{}"]),
        engine(args=["--kv-transfer-config", "{}"]),
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
    Example(
        "nothing may be requested beyond its limit",
        "spec.resources.requests",
        {"resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": 2, "memory": "1024Mi"}}},
        {"resources": {"limits": {"cpu": "1.5", "memory": "1Gi"}, "requests": {"cpu": "1500m", "memory": "1e9"}}},
    ),
    Example(
        "nothing may be requested beyond its limit",
        "spec.router.resources.requests",
        {"router": {"resources": {"limits": {"cpu": "250m"}, "requests": {"cpu": "0.251"}}}},
        {"router": {"resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "1Gi"}}}},
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
    *(
        Example(
            "keys under kvpool.dev/ belong to the operator",
            f"{path}.metadata.{part}",
            nested(path, {"metadata": {part: {"kvpool.dev/pool": "x"}}}),
            nested(path, {"metadata": {part: {"example.kvpool.dev/x": "x"}}}),
        )
        for path in ("spec.podTemplate", "spec.router.podTemplate")
        for part in ("labels", "annotations")
    ),
    *(
        Example(
            "a key is a name of letters",
            f"{path}.metadata.{part}",
            nested(path, {"metadata": {part: {key: "x"}}}),
            nested(path, {"metadata": {part: {"example.org/a_b": "x"}}}),
        )
        for path in ("spec.podTemplate", "spec.router.podTemplate")
        for part, key in (("labels", "a b"), ("annotations", "a" * 300))
    ),
    Example("shorten it", "metadata.name", {}, {}, name="a" * 41),
    Example("beginning with a letter", "metadata.name", {}, {}, name="4-gpus"),
    Example("may not end with '-router'", "metadata.name", {}, {}, name="qwen-router"),
]


def pool(spec: Manifest, name: str = "qwen") -> Manifest:
    return {
        "apiVersion": "kvpool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"model": {"name": "m"}, **spec},
    }

"""What a user may ask of a pool. Every default is here, so that it stands in the CRD and is visible in GET.

Attribute docstrings become the descriptions that `kubectl explain` shows.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from kvpool_api.meta import ApiModel

DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LABEL_VALUE = r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$"
QUANTITY = r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$"
ATOMIC_LIST: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}
SET: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
UNION: dict[str, JsonValue] = {"x-kubernetes-map-type": "atomic"}
"""Server-side apply replaces it whole, so that a member that was set before does not stay beside the new one."""

GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "habana.ai/gaudi")
"""Device names whose number tells how many GPUs an engine has."""

ModelName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([-._:/+A-Za-z0-9]*[A-Za-z0-9])?$")
]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
AbsolutePath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^/")]
FolderInVolume = Annotated[str, Field(max_length=1024)]
ImageReference = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][-._:/@A-Za-z0-9]*$")]
Quantity = Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=64, pattern=QUANTITY)]
ResourceList = Annotated[dict[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=32)]


class KeyReference(ApiModel):
    """One key of a Secret or ConfigMap in the pool's namespace."""

    name: ObjectName
    """Name of the object."""
    key: DataKey
    """Key in its data."""


class TokenReference(ApiModel):
    """The Secret that holds the hub's access token."""

    name: ObjectName
    """Name of the Secret."""
    key: DataKey = "token"
    """Key in its data."""


class HubSource(ApiModel):
    """Weights from the model hub."""

    revision: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-._/A-Za-z0-9]*$")] | None = (
        None
    )
    """Branch, tag or commit; the hub's default branch when omitted."""
    secret_ref: TokenReference | None = None
    """Access token for gated models."""


class ClaimSource(ApiModel):
    """Weights on a PersistentVolumeClaim, mounted read-only."""

    claim_name: ObjectName
    """Name of the claim."""
    path: FolderInVolume = ""
    """Folder inside the volume; its root when empty."""


class ImageSource(ApiModel):
    """Weights in an OCI image, mounted as an image volume."""

    reference: ImageReference
    """The image."""
    path: FolderInVolume = ""
    """Folder inside the image; its root when empty."""


class ModelSource(ApiModel):
    """Where the weights come from: exactly one of these."""

    hub: HubSource | None = None
    """The model hub, by model.name."""
    persistent_volume_claim: ClaimSource | None = None
    """A volume that holds the weights."""
    image: ImageSource | None = None
    """An OCI image that holds the weights."""
    path: AbsolutePath | None = None
    """A folder that every node (or this machine, with `kvpool up`) already has; mounted read-only from the host."""


class ModelCache(ApiModel):
    """A volume for downloaded weights; without one every new engine downloads them again."""

    claim_name: ObjectName
    """Name of a PersistentVolumeClaim that all engines of the pool may mount."""


class ModelSpec(ApiModel):
    """The model that the pool serves."""

    name: ModelName
    """The model's name, as clients ask for it and as the hub knows it. Immutable."""
    served_names: Annotated[list[ModelName], Field(max_length=16, json_schema_extra=SET)] = []
    """Further names that clients may use."""
    source: Annotated[ModelSource, Field(json_schema_extra=UNION)] = ModelSource(hub=HubSource())
    """Where the weights come from: exactly one of hub, persistentVolumeClaim, image and path."""
    cache: ModelCache | None = None
    """Volume for downloaded weights."""
    chat_template: KeyReference | None = None
    """A ConfigMap's key with a Jinja chat template that replaces the model's own."""


class SecretOrConfigKey(ApiModel):
    """Where an environment variable takes its value from: exactly one of these."""

    secret_key_ref: KeyReference | None = None
    """A Secret's key."""
    config_map_key_ref: KeyReference | None = None
    """A ConfigMap's key."""


class EnvironmentVariable(ApiModel):
    """One environment variable of the engine container."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    """Its name."""
    value: Annotated[str, Field(max_length=8192)] | None = None
    """Its value."""
    value_from: Annotated[SecretOrConfigKey, Field(json_schema_extra=UNION)] | None = None
    """A reference instead of a value."""


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class CpuOffload(ApiModel):
    """KV blocks of prompts are copied to the Pod's memory, from where a later prompt loads what the GPU has lost."""

    size: Quantity
    """Memory for them in each Pod, all its DP ranks together, such as 64Gi. It counts against the Pod's memory, on top
    of what the engine itself needs."""


class EngineSpec(ApiModel):
    """How one vLLM engine runs."""

    image: ImageReference = "vllm/vllm-openai:v0.32.0"
    """A vLLM image whose entrypoint is `vllm serve`."""
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the kubelet pulls the image."""
    args: Annotated[
        list[Annotated[str, Field(max_length=4096)]], Field(max_length=128, json_schema_extra=ATOMIC_LIST)
    ] = []
    """Further arguments of `vllm serve`, one a list item; those that kvpool sets itself are refused here."""
    env: Annotated[
        list[EnvironmentVariable],
        Field(
            max_length=128, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = []
    """Environment variables of the engine."""
    block_size: Annotated[int, Field(ge=1, le=256)] = 16
    """Tokens in a block of KV cache; a power of two. Prefixes are shared in whole blocks. On CPU vLLM wants 32."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs that one model copy spans; the limit of GPUs / dataParallelSize when omitted."""
    data_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Model copies (DP ranks) in one Pod; each is a worker of its own to the router."""
    cpu_offload: CpuOffload | None = None
    """A second, larger cache below the GPU's, by vLLM's native offloading (CUDA, ROCm and XPU devices); none when
    omitted."""
    startup_timeout_seconds: Annotated[int, Field(ge=10, le=86400)] = 3600
    """How long an engine may take from start to healthy: loading weights, compiling, capturing graphs."""


class ResourceRequirements(ApiModel):
    """Compute resources of one container."""

    limits: ResourceList = {}
    """Upper bounds; GPUs stand here."""
    requests: ResourceList = {}
    """What the scheduler reserves; limits when omitted."""


class Strategy(StrEnum):
    """How the router picks an engine."""

    CACHE_AWARE = "CacheAware"
    ROUND_ROBIN = "RoundRobin"
    LEAST_LOAD = "LeastLoad"
    RANDOM = "Random"


class SchedulingSpec(ApiModel):
    """How requests are placed."""

    strategy: Strategy = Strategy.CACHE_AWARE
    """CacheAware weighs cached prefixes against queues; the others are for comparison."""


class TemplateMetadata(ApiModel):
    """Labels and annotations of a Pod."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]], Field(max_length=64)] = {}
    """Labels added to ours."""
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=8192)]], Field(max_length=64)] = {}
    """Annotations added to ours."""


class PodTemplate(ApiModel):
    """Merged over the Pod that the operator builds: lists by name, maps by key."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations."""
    spec: Annotated[dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = {}
    """A partial Pod spec."""


class RouterSpec(ApiModel):
    """The router in front of the engines."""

    replicas: Annotated[int, Field(ge=1, le=16)] = 2
    """Router Pods; each keeps the whole cache map, and a new one begins with that of another."""
    image: ImageReference | None = None
    """The router's image; the operator's own release when omitted."""
    resources: ResourceRequirements = ResourceRequirements(requests={"cpu": "500m", "memory": "512Mi"})
    """Compute resources of a router Pod. The cache map takes about 130 bytes a cached block."""
    scheduling: SchedulingSpec = SchedulingSpec()
    """How requests are placed."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1073741824)] = 33554432
    """Requests with a larger body are refused with 413."""
    pod_template: PodTemplate = PodTemplate()
    """The escape hatch: merged over the router's Pod template, such as imagePullSecrets, nodeSelector, tolerations."""


class KVEventsSpec(ApiModel):
    """How engines tell the router what they cache; derived, and rarely worth a change."""

    events_port: Annotated[int, Field(ge=1024, le=65000)] = 5557
    """First port of vLLM's event publisher; vLLM adds the DP rank."""
    replay_port: Annotated[int, Field(ge=1024, le=65000)] = 5657
    """First port of vLLM's replay socket; vLLM adds the DP rank."""
    sync_timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 10
    """How long a router waits for an engine's events before it serves with predictions alone."""


class DrainSpec(ApiModel):
    """How an engine leaves."""

    timeout_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """How long requests in flight may take to end before the engine is deleted all the same."""
    pre_stop_seconds: Annotated[int, Field(ge=0, le=600)] = 5
    """How long an engine that is deleted past the drain keeps serving, so that routers notice."""
    shutdown_timeout_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """How long vLLM finishes requests after SIGTERM."""


class OperatorUpgradePolicy(StrEnum):
    KEEP = "Keep"
    ROLL = "Roll"


class RolloutSpec(ApiModel):
    """How engines are replaced when their template changes."""

    max_surge: Annotated[int, Field(ge=0, le=1000)] = 1
    """Engines above replicas during a rollout; each needs free GPUs. With none, set 0 here, maxUnavailable 1."""
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = 0
    """Engines below replicas during a rollout."""
    on_operator_upgrade: OperatorUpgradePolicy = OperatorUpgradePolicy.KEEP
    """Whether a new operator release replaces running engines whose spec did not change."""


class InferencePoolSpec(ApiModel):
    """A pool of engines that serve one model behind one cache-aware router."""

    model: ModelSpec
    """The model that the pool serves."""
    engine: EngineSpec = EngineSpec()
    """How one engine runs."""
    resources: ResourceRequirements = ResourceRequirements()
    """Compute resources of one engine Pod."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Engine Pods wanted."""
    paused: bool = False
    """While true the operator makes, changes and deletes nothing of the pool's: no engine is added, replaced or
    drained, and drains under way wait. Traffic and status go on, and the pool can be deleted."""
    router: RouterSpec = RouterSpec()
    """The router in front of them."""
    kv_events: KVEventsSpec = KVEventsSpec()
    """How engines tell the router what they cache."""
    drain: DrainSpec = DrainSpec()
    """How an engine leaves."""
    rollout: RolloutSpec = RolloutSpec()
    """How engines are replaced."""
    pod_template: PodTemplate = PodTemplate()
    """The escape hatch: merged over the engine Pod that the operator builds."""

"""The engine Pod: one vLLM process group with everything that it needs to serve, tell its cache and leave in peace."""

from kvpool_api.labels import (
    APPLIED_TEMPLATE,
    BUILDER_REVISION,
    DATA_PARALLEL_SIZE,
    ENGINE_CONTAINER,
    ROLE_ENGINE,
    ROUTABLE_GATE,
    SLOT,
    TEMPLATE_HASH,
)
from kvpool_api.manifest import as_map
from kvpool_api.pool import InferencePool
from kvpool_api.spec import EngineSpec, EnvironmentVariable
from kvpool_api.wire import ENGINE_HTTP_PORT, EVENTS_PORT_NAME, HTTP_PORT_NAME, REPLAY_PORT_NAME
from pydantic import JsonValue

from kvpool_operator.build.applied_template import AppliedTemplate
from kvpool_operator.build.engine_arguments import engine_arguments
from kvpool_operator.build.model_files import CACHE_MOUNT, ModelFiles, model_files
from kvpool_operator.build.names import canonical, engine_name, template_hash
from kvpool_operator.build.parts import Json, field_env, http_probe, metadata, resources, restricted, unprivileged
from kvpool_operator.build.template_merge import by_name, merged

ENGINE_USER = 2000
"""The stock image's own user; with another one vLLM finds no home and fails."""
STARTUP_PERIOD_S = 5
STOP_MARGIN_S = 10
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


def engine_pod(pool: InferencePool, slot: int, builder_revision: str) -> Json:
    """The Pod in this slot, with the pool's podTemplate merged over it."""
    hash_of_template = template_hash(pool, builder_revision)
    name = engine_name(pool.metadata.name, hash_of_template, slot)
    meta = metadata(pool, name, ROLE_ENGINE)
    built: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **meta,
            "labels": {**as_map(meta["labels"]), TEMPLATE_HASH: hash_of_template, SLOT: str(slot)},
            "annotations": {
                APPLIED_TEMPLATE: canonical(AppliedTemplate.of(pool).as_json()),
                BUILDER_REVISION: builder_revision,
                DATA_PARALLEL_SIZE: str(pool.spec.engine.data_parallel_size),
                SAFE_TO_EVICT: "true",
            },
        },
        "spec": _pod_spec(pool, name),
    }
    return merged(built, pool.spec.pod_template)


def _pod_spec(pool: InferencePool, name: str) -> Json:
    files = model_files(pool.spec.model)
    drain = pool.spec.drain
    cache = pool.spec.model.cache
    stored: Json = {"persistentVolumeClaim": {"claimName": cache.claim_name}} if cache else {"emptyDir": {}}
    volumes: list[JsonValue] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        {"name": "cache", **stored},
        *files.volumes,
    ]
    return {
        "restartPolicy": "Always",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": unprivileged(ENGINE_USER),
        "terminationGracePeriodSeconds": drain.pre_stop_seconds + drain.shutdown_timeout_seconds + STOP_MARGIN_S,
        "readinessGates": [{"conditionType": ROUTABLE_GATE}],
        "containers": [_container(pool, name, files)],
        "volumes": volumes,
    }


def _container(pool: InferencePool, name: str, files: ModelFiles) -> Json:
    engine = pool.spec.engine
    container: Json = {
        "name": ENGINE_CONTAINER,
        "image": engine.image,
        "imagePullPolicy": engine.image_pull_policy.value,
        "args": [*engine_arguments(pool, name, files)],
        "env": by_name(*_environment(), *files.env, *map(_variable, engine.env)),
        "ports": [*_ports(pool)],
        "resources": resources(pool.spec.resources),
        "securityContext": restricted(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": _startup_probe(engine),
        "readinessProbe": http_probe("/health", HTTP_PORT_NAME, period_s=5, failures=3),
        "livenessProbe": http_probe("/health", HTTP_PORT_NAME, period_s=10, failures=6),
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - a mount, not a temporary file
            {"name": "cache", "mountPath": CACHE_MOUNT},
            *files.mounts,
        ],
    }
    if pool.spec.drain.pre_stop_seconds:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pool.spec.drain.pre_stop_seconds}}}
    return container


def _environment() -> list[Json]:
    """Who the Pod is, and writable places for all that vLLM and its libraries keep."""
    places = {
        "HOME": CACHE_MOUNT,
        "HF_HOME": f"{CACHE_MOUNT}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE_MOUNT}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_MOUNT}/torchinductor",
        "TRITON_CACHE_DIR": f"{CACHE_MOUNT}/triton",
        "XDG_CACHE_HOME": f"{CACHE_MOUNT}/xdg",
    }
    own = [field_env("POD_NAME", "metadata.name"), field_env("POD_IP", "status.podIP")]
    return own + [{"name": name, "value": value} for name, value in places.items()]


def _variable(told: EnvironmentVariable) -> Json:
    return told.model_dump(mode="json", by_alias=True, exclude_none=True)


def _ports(pool: InferencePool) -> list[Json]:
    """One port for requests; two a DP rank for events, as vLLM numbers them."""
    ports: list[Json] = [{"name": HTTP_PORT_NAME, "containerPort": ENGINE_HTTP_PORT}]
    events = pool.spec.kv_events
    for rank in range(pool.spec.engine.data_parallel_size):
        suffix = f"-{rank}" if rank else ""
        ports.append({"name": EVENTS_PORT_NAME + suffix, "containerPort": events.events_port + rank})
        ports.append({"name": REPLAY_PORT_NAME + suffix, "containerPort": events.replay_port + rank})
    return ports


def _startup_probe(engine: EngineSpec) -> Json:
    failures = -(-engine.startup_timeout_seconds // STARTUP_PERIOD_S)
    return http_probe("/health", HTTP_PORT_NAME, period_s=STARTUP_PERIOD_S, failures=failures)

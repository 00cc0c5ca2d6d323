"""The arguments of `vllm serve` that kvpool derives; the user's own follow them."""

import json
from decimal import ROUND_FLOOR, Decimal

from kvpool_api.admission.quantities import amount_of
from kvpool_api.pool import InferencePool
from kvpool_api.spec import GPU_RESOURCES, CpuOffload
from kvpool_api.wire import ENGINE_HTTP_PORT

from kvpool_operator.build.model_files import ModelFiles

_GIBIBYTE = Decimal(2**30)
_BYTES = Decimal("1e-9")
"""As fine as an amount in GiB need be."""


def tensor_parallel_size(pool: InferencePool) -> int:
    """GPUs of one model copy: as told, else what the Pod's GPUs leave to each copy."""
    told = pool.spec.engine.tensor_parallel_size
    if told is not None:
        return told
    limits = pool.spec.resources.limits
    gpus = next((int(limits[name]) for name in GPU_RESOURCES if name in limits), 1)
    return max(1, gpus // pool.spec.engine.data_parallel_size)


def engine_arguments(pool: InferencePool, pod: str, files: ModelFiles) -> list[str]:
    """Everything after `vllm serve`."""
    spec = pool.spec
    served = [spec.model.name, *spec.model.served_names]
    derived = [
        files.location,
        *("--host", "$(POD_IP)", "--port", str(ENGINE_HTTP_PORT)),
        *("--served-model-name", *served),
        *("--block-size", str(spec.engine.block_size)),
        *("--tensor-parallel-size", str(tensor_parallel_size(pool))),
        *("--kv-events-config", _kv_events_config(pool, pod)),
        *("--enable-prompt-tokens-details", "--enable-scale-out"),
        *("--shutdown-timeout", str(spec.drain.shutdown_timeout_seconds)),
    ]
    if spec.engine.cpu_offload is not None:
        derived += _offloading(spec.engine.cpu_offload, spec.engine.data_parallel_size)
    if spec.engine.data_parallel_size > 1:
        derived += ["--data-parallel-size", str(spec.engine.data_parallel_size)]
    if files.revision is not None:
        derived += ["--revision", files.revision]
    if files.chat_template is not None:
        derived += ["--chat-template", files.chat_template]
    return derived + spec.engine.args


def _offloading(told: CpuOffload, ranks: int) -> list[str]:
    """VLLM takes GiB for all GPUs of a model copy together, and each DP rank takes as much for itself."""
    share = amount_of(str(told.size)) / ranks / _GIBIBYTE
    size = f"{share.quantize(_BYTES, ROUND_FLOOR):f}".rstrip("0").rstrip(".")
    return ["--kv-offloading-size", size, "--kv-offloading-backend", "native"]


def _kv_events_config(pool: InferencePool, pod: str) -> str:
    """VLLM's publisher binds to `*` only, and adds the DP rank to both ports."""
    events = pool.spec.kv_events
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://*:{events.events_port}",
        "replay_endpoint": f"tcp://*:{events.replay_port}",
        "topic": f"kv@{pod}@{pool.spec.model.name}",
    }
    return json.dumps(config, separators=(",", ":"))

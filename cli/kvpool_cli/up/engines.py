"""Which programs of this machine stand in for the containers of a pool."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from kvpool_api.labels import ENGINE_CONTAINER, ROUTER_CONTAINER
from kvpool_api.pool import InferencePool
from kvpool_operator.cluster.local.images import ImageTable, Program

from kvpool_cli.errors import FAILED, UserError

EngineName = Literal["sim", "vllm"]

VLLM_SERVER = ("-m", "vllm.entrypoints.openai.api_server", "--model")
"""Takes what `vllm serve` takes, whose own script asks for a distribution named `vllm`, which CPU builds lack."""

VLLM_ENV: Mapping[str, str] = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "SPT_NOENV": "1"}
"""The last keeps setproctitle from writing titles over the environment, by which processes that are left are found."""

VLLM_CPU_ENV: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""What lets several engines share a machine without a GPU; the pool's own spec.engine.env wins."""

HAS_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


def programs(engine: EngineName, vllm_python: Path | None, pools: Sequence[InferencePool]) -> ImageTable:
    """Programs by container name, whatever images the pools name. Raises UserError where vLLM is not installed."""
    if engine == "sim":
        return _table(Program((sys.executable, "-m", "kvpool_sim")), _simulated_tokenizer())
    python = python_with_vllm(vllm_python)
    return _table(Program((python, *VLLM_SERVER), env=vllm_env(pools, has_gpu()), events_over_ipc=True), {})


def _table(engine: Program, router_env: Mapping[str, str]) -> ImageTable:
    router = Program((sys.executable, "-m", "kvpool_router"), env=router_env, is_router=True)
    return ImageTable(by_container={ENGINE_CONTAINER: engine, ROUTER_CONTAINER: router})


def _simulated_tokenizer() -> Mapping[str, str]:
    from kvpool_sim import tokenizer_path

    return {"KVPOOL_TOKENIZER_PATH": str(tokenizer_path())}


def python_with_vllm(told: Path | None) -> str:
    """The interpreter told, else this one, if it has vLLM."""
    python = str(told or sys.executable)
    found = shutil.which(python)
    if found is None:
        raise UserError(f"--vllm-python {python}: there is no such program", exit_code=FAILED)
    if subprocess.run([found, "-c", HAS_VLLM], check=False, capture_output=True).returncode:  # noqa: S603
        raise UserError(
            f"--engine vllm: vLLM is not installed for {found}; install it (GPU: pip install vllm; without one: "
            "`make tiny-model` in kvpool's repository) and name its python with --vllm-python or KVPOOL_VLLM_PYTHON",
            exit_code=FAILED,
        )
    return found


def has_gpu() -> bool:
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd")


def vllm_env(pools: Sequence[InferencePool], gpu: bool) -> dict[str, str]:
    """Environment of real engines; what a pool sets itself is left to it."""
    env = dict(VLLM_ENV) | ({} if gpu else dict(VLLM_CPU_ENV))
    if all(pool.spec.model.source.path is not None for pool in pools):
        env["HF_HUB_OFFLINE"] = "1"
    told = {variable.name for pool in pools for variable in pool.spec.engine.env}
    return {name: value for name, value in env.items() if name not in told}

"""What a pool that the API accepts will most likely not do as its author hopes; said, never refused."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kvpool_api.pool import InferencePool
from kvpool_operator.build.engine_arguments import tensor_parallel_size
from rich.console import Console


def say_doubts(file: Path, pools: Iterable[InferencePool], console: Console) -> None:
    """A warning a line."""
    for pool in pools:
        for doubt in doubts(pool):
            line = f"warning: {file}: pool {pool.metadata.name}: {doubt}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def doubts(pool: InferencePool) -> Iterator[str]:
    """One line each, with the mend. Only the model's own configuration could tell for certain."""
    size = tensor_parallel_size(pool)
    if size & (size - 1):
        yield (
            f"{_origin(pool)} is no power of two: vLLM starts only where it divides the model's attention heads "
            f"(num_attention_heads in its config.json); {_below(size)} or {2 * _below(size)} fit most models"
        )


def _origin(pool: InferencePool) -> str:
    size = tensor_parallel_size(pool)
    if pool.spec.engine.tensor_parallel_size is not None:
        return f"spec.engine.tensorParallelSize {size}"
    return f"a tensor parallel size of {size}, derived from the GPUs of spec.resources.limits,"


def _below(size: int) -> int:
    """The largest power of two that is not above the size."""
    return 1 << (size.bit_length() - 1)

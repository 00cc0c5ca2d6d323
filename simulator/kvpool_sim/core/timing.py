"""How long an engine's step takes.

    prefill_ms(n new tokens on p cached ones) = c0 + a n + b n (p + n / 2)
    decode_ms(B sequences, sum of contexts)   = d0 + d1 B + d2 contexts
    step_ms = 1.1 (prefill, or d0 alone, + decode's share + 2)

The six constants of a row are fitted by weighted least squares to NVIDIA's aiconfigurator-core 0.12.0 (vLLM 0.24.0 on
H100 SXM, 0.14.0 on A100 SXM, bf16) over 256 to 8,192 new tokens, prefixes to 32k, 1 to 256 sequences; mean error
1 to 6 %.
Loading a token from main memory takes its KV bytes over the PCIe links of all the engine's GPUs together, at four
fifths of what a link of 16 lanes is rated at (64 GB/s on H100, 32 on A100).
The 2 ms a step and the factor 1.1 bring the model to a median error of 6.8 % on measured Qwen3-32B serving points.
"""

from dataclasses import dataclass

STEP_OVERHEAD_MS = 2.0
SCALE = 1.1
_LINK_BYTES_PER_S = {"h100": 64e9, "a100": 32e9}
_LINK_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Timing:
    """One row: a model on a kind and number of GPUs."""

    name: str
    model: str
    tensor_parallel: int
    prefill_ms: float
    token_us: float
    attention_ps: float
    decode_ms: float
    sequence_us: float
    context_ns: float
    kv_tokens: int
    """KV cache of one engine at a memory utilization of 0.9."""
    kv_token_bytes: int
    """Of one token, over all GPUs of the engine."""

    @property
    def load_token_s(self) -> float:
        """From main memory to the GPUs."""
        rated = next(rate for name, rate in _LINK_BYTES_PER_S.items() if self.name.startswith(name))
        return self.kv_token_bytes / (self.tensor_parallel * _LINK_SHARE * rated)

    def prefill_s(self, new_tokens: int, cached_tokens: int) -> float:
        """Compute of one request's chunk, without what the step costs anyhow."""
        attention = self.attention_ps * 1e-12 * (cached_tokens + new_tokens / 2)
        return SCALE * new_tokens * (self.token_us * 1e-6 + attention)

    def step_s(self, prefill_s: float, sequences: int, context_tokens: int) -> float:
        """A whole step: chunks that take `prefill_s` (0: none) beside decoding sequences of `context_tokens` in all."""
        fixed_ms = (self.prefill_ms if prefill_s else self.decode_ms) + STEP_OVERHEAD_MS
        decode_s = self.sequence_us * 1e-6 * sequences + self.context_ns * 1e-9 * context_tokens
        return prefill_s + SCALE * (fixed_ms * 1e-3 + decode_s)


_LLAMA_8B, _QWEN_8B = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B"
_QWEN_32B, _LLAMA_70B = "Qwen/Qwen3-32B", "meta-llama/Llama-3.1-70B-Instruct"

ROWS = {
    row.name: row
    for row in (
        Timing("h100-llama-3.1-8b-tp1", _LLAMA_8B, 1, 2.97, 19.13, 785, 6.42, 10.7, 41.75, 432_992, 131_072),
        Timing("h100-llama-3.1-8b-tp2", _LLAMA_8B, 2, 2.35, 12.40, 397, 4.00, 7.7, 20.83, 987_648, 131_072),
        Timing("h100-qwen3-8b-tp1", _QWEN_8B, 1, 4.23, 18.79, 886, 6.59, 11.6, 47.01, 382_705, 147_456),
        Timing("h100-qwen3-32b-tp2", _QWEN_32B, 2, 7.60, 47.75, 1595, 13.59, 26.3, 42.36, 307_328, 262_144),
        Timing("h100-qwen3-32b-tp4", _QWEN_32B, 4, 7.30, 28.44, 774, 8.35, 19.7, 21.26, 855_842, 262_144),
        Timing("h100-llama-3.1-70b-tp4", _LLAMA_70B, 4, 6.92, 60.52, 979, 15.18, 32.8, 26.44, 461_376, 327_680),
        Timing("h100-llama-3.1-70b-tp8", _LLAMA_70B, 8, 6.24, 38.76, 479, 10.09, 23.1, 13.35, 1_338_649, 327_680),
        Timing("h100-qwen3-0.6b-tp1", "Qwen/Qwen3-0.6B", 1, 2.25, 1.82, 350, 1.42, 4.1, 36.91, 624_992, 114_688),
        Timing("a100-llama-3.1-8b-tp1", _LLAMA_8B, 1, 8.12, 54.40, 2944, 11.60, 26.9, 84.80, 432_992, 131_072),
        Timing("a100-llama-3.1-8b-tp2", _LLAMA_8B, 2, 3.96, 33.77, 1450, 6.71, 18.5, 44.47, 987_648, 131_072),
        Timing("a100-qwen3-8b-tp1", _QWEN_8B, 1, 9.25, 54.19, 3310, 11.75, 27.6, 95.35, 382_705, 147_456),
        Timing("a100-qwen3-32b-tp2", _QWEN_32B, 2, 20.42, 124.2, 5847, 24.67, 78.9, 89.06, 301_810, 262_144),
        Timing("a100-qwen3-32b-tp4", _QWEN_32B, 4, 9.24, 76.70, 2889, 14.44, 45.9, 45.09, 855_842, 262_144),
        Timing("a100-llama-3.1-70b-tp4", _LLAMA_70B, 4, 18.29, 154.2, 3622, 27.77, 100.1, 56.49, 454_016, 327_680),
        Timing("a100-llama-3.1-70b-tp8", _LLAMA_70B, 8, 13.71, 101.2, 1740, 17.37, 69.8, 26.62, 1_338_649, 327_680),
    )
}
DEFAULT_ROW = ROWS["h100-llama-3.1-8b-tp1"]


def row_for(model: str, tensor_parallel: int) -> Timing:
    """The H100 row of this model and size, else the default row."""
    h100 = (row for row in ROWS.values() if row.name.startswith("h100"))
    return next((row for row in h100 if (row.model, row.tensor_parallel) == (model, tensor_parallel)), DEFAULT_ROW)

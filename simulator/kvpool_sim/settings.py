"""What the simulated engine is told: vLLM's own arguments, and a few of ours."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvpool_sim.arguments import Arguments, SettingsError, amount
from kvpool_sim.core.engine import Limits
from kvpool_sim.core.timing import ROWS, Timing, row_for
from kvpool_sim.publisher import Publishing

VOCABULARY = 200_000
"""Ids below it are accepted in token prompts: a real model's vocabulary is larger than the stand-in tokenizer's."""

_VLLM = Limits()


@dataclass(frozen=True, slots=True)
class Settings:
    """One engine process."""

    model: str
    served_names: tuple[str, ...]
    adapters: Mapping[str, str]
    """LoRA adapters: where each is, by its name."""
    host: str
    port: int
    timing: Timing
    block_size: int
    blocks: int
    """KV blocks of one DP rank, vLLM's null block included."""
    offloaded_blocks: int
    """KV blocks that one DP rank keeps in main memory; 0 without offloading."""
    limits: Limits
    data_parallel_size: int
    publishing: Publishing | None
    cached_tokens_in_usage: bool
    force_usage: bool
    opens_render: bool
    calls_tools: bool
    """Whether requests may leave it to the model to call tools. The simulated one never does."""
    shutdown_timeout_s: float
    start_delay_s: float
    speed: float
    """How many times faster than the modelled hardware."""


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings, and vLLM arguments that mean nothing to a simulation. Raises SettingsError."""
    known = _parser(environment).read(argv)
    if known.timing and known.timing not in ROWS:
        raise SettingsError(f"--sim-timing {known.timing}: no such row; the rows are {', '.join(ROWS)}")
    timing = ROWS[known.timing] if known.timing else row_for(known.model, known.tensor_parallel_size)
    blocks = known.num_gpu_blocks_override or (known.kv_tokens or timing.kv_tokens) // known.block_size + 1
    asked = known.max_model_len if known.max_model_len > 0 else _VLLM.max_model_len
    max_len = min(asked, (blocks - 1) * known.block_size)
    settings = Settings(
        model=known.model,
        served_names=tuple(known.served_model_name or [known.model]),
        adapters=_adapters(known.lora_modules) if known.enable_lora else {},
        host=known.host,
        port=known.port,
        timing=timing,
        block_size=known.block_size,
        blocks=blocks,
        offloaded_blocks=_offloaded_blocks(known, timing),
        limits=Limits(known.max_num_batched_tokens, known.max_num_seqs, max_len),
        data_parallel_size=known.data_parallel_size,
        publishing=_publishing(known.kv_events_config, known.host),
        cached_tokens_in_usage=known.enable_prompt_tokens_details,
        force_usage=known.enable_force_include_usage,
        opens_render=known.enable_scale_out,
        calls_tools=known.enable_auto_tool_choice and known.tool_call_parser is not None,
        shutdown_timeout_s=known.shutdown_timeout,
        start_delay_s=known.start_delay,
        speed=known.speed,
    )
    return settings, known.unused


def _offloaded_blocks(known: argparse.Namespace, timing: Timing) -> int:
    """Only vLLM's own backend keeps blocks in the engine; LMCache has a server of its own."""
    if not known.kv_offloading_size or known.kv_offloading_backend != "native":
        return 0
    gibibytes: float = known.kv_offloading_size
    block_size: int = known.block_size
    return int(gibibytes * 2**30) // (timing.kv_token_bytes * block_size)


def _parser(environment: Mapping[str, str]) -> Arguments:
    parser = Arguments("kvpool_sim", "A vLLM engine without a GPU: vLLM's wire, a modelled clock.")
    parser.add_argument("model")
    _add_vllm(parser)
    add = parser.add_argument
    add("--sim-timing", dest="timing", default=environment.get("KVPOOL_SIM_TIMING"), help="one of: " + ", ".join(ROWS))
    add("--sim-kv-tokens", dest="kv_tokens", type=int, default=environment.get("KVPOOL_SIM_KV_TOKENS"))
    add("--sim-speed", dest="speed", type=float, default=environment.get("KVPOOL_SIM_SPEED", "1"))
    add("--sim-start-delay", dest="start_delay", type=float, default=environment.get("KVPOOL_SIM_START_DELAY", "0"))
    return parser


def _add_vllm(parser: Arguments) -> None:
    """Those of vLLM's arguments that mean something here."""
    add, use = parser.add_argument, parser.use
    add(*use("--served-model-name"), nargs="+")
    add(*use("--lora-modules"), nargs="+", default=[])
    add(*use("--host"), default="127.0.0.1")
    add(*use("--port"), type=int, default=8000)
    add(*use("--block-size"), type=int, default=16)
    add(*use("--max-model-len"), type=amount, default=_VLLM.max_model_len)
    add(*use("--max-num-batched-tokens"), type=amount, default=_VLLM.max_num_batched_tokens)
    add(*use("--max-num-seqs"), type=int, default=_VLLM.max_num_seqs)
    add(*use("--num-gpu-blocks-override"), type=int)
    add(*use("--kv-offloading-size"), type=float)
    add(*use("--kv-offloading-backend"), default="native")
    add(*use("--tensor-parallel-size"), type=int, default=1)
    add(*use("--data-parallel-size"), type=int, default=1)
    add(*use("--kv-events-config"))
    add(*use("--tool-call-parser"))
    add(*use("--shutdown-timeout"), type=float, default=0.0)
    for switch in (
        "--enable-prompt-tokens-details",
        "--enable-force-include-usage",
        "--enable-scale-out",
        "--enable-auto-tool-choice",
        "--enable-lora",
    ):
        add(*use(switch), action=argparse.BooleanOptionalAction, default=False)


def _adapters(told: Sequence[str]) -> Mapping[str, str]:
    """As vLLM reads them: `name=path`, or a JSON object with both."""
    found = {}
    for each in told:
        try:
            pair = zip(("name", "path"), each.split("=", 1), strict=True)
            module = json.loads(each) if each.startswith("{") else dict(pair)
            found[str(module["name"])] = str(module["path"])
        except (ValueError, LookupError, TypeError) as error:
            raise SettingsError(f"--lora-modules {each}: neither name=path nor a JSON object with both") from error
    return found


def _publishing(config: str | None, host: str) -> Publishing | None:
    if config is None:
        return None
    try:
        told = json.loads(config)
    except json.JSONDecodeError as error:
        raise SettingsError(f"--kv-events-config is no JSON: {error}") from error
    if not told.get("enable_kv_cache_events"):
        return None
    replay = told.get("replay_endpoint")
    return Publishing(
        _on(host, told.get("endpoint", "tcp://*:5557")),
        _on(host, replay) if replay else None,
        told.get("topic", ""),
        told.get("buffer_steps", 10_000),
    )


def _on(host: str, endpoint: str) -> str:
    """`*` means this engine's own address, so that several engines of one machine can use the same ports."""
    return endpoint if host == "0.0.0.0" else endpoint.replace("//*:", f"//{host}:")  # noqa: S104 - a comparison


def for_rank(publishing: Publishing, rank: int) -> Publishing:
    """Like vLLM: the DP rank is added to both ports; other endpoints serve rank 0 only."""
    replay = publishing.replay_endpoint
    return Publishing(
        _shifted(publishing.endpoint, rank),
        _shifted(replay, rank) if replay else None,
        publishing.topic,
        publishing.buffer_steps,
    )


def _shifted(endpoint: str, rank: int) -> str:
    if not endpoint.startswith("tcp://") or not rank:
        return endpoint
    base, _, port = endpoint.rpartition(":")
    return f"{base}:{int(port) + rank}"

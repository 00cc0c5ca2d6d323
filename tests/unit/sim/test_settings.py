"""Arguments: vLLM's own, and what makes no sense."""

import pytest
from kvpool_sim.arguments import SettingsError, vllm_arguments
from kvpool_sim.core.timing import ROWS
from kvpool_sim.settings import parse


def test_the_row_follows_from_model_and_gpus_and_decides_the_cache():
    told, ignored = parse(["Qwen/Qwen3-32B", "--tensor-parallel-size", "2", "--enforce-eager", "--dtype", "half"], {})
    assert told.timing is ROWS["h100-qwen3-32b-tp2"]
    assert (told.blocks - 1) * told.block_size == 307_328
    assert told.served_names == ("Qwen/Qwen3-32B",)
    assert told.publishing is None
    assert ignored == ["--enforce-eager", "--dtype"]


def test_the_environment_is_a_default_and_arguments_win():
    environment = {"KVPOOL_SIM_TIMING": "a100-qwen3-8b-tp1", "KVPOOL_SIM_KV_TOKENS": "3200", "KVPOOL_SIM_SPEED": "3"}
    assert parse(["m"], environment)[0].timing.name == "a100-qwen3-8b-tp1"
    assert parse(["m"], environment)[0].blocks == 201
    told = parse(["m", "--num-gpu-blocks-override", "50", "--sim-speed", "2"], environment)[0]
    assert (told.blocks, told.speed, told.limits.max_model_len) == (50, 2.0, 49 * 16)


def test_what_makes_no_sense_is_said_in_one_line():
    with pytest.raises(SettingsError, match="no such row; the rows are h100-llama"):
        parse(["m", "--sim-timing", "h900"], {})
    with pytest.raises(SettingsError, match="--kv-events-config is no JSON"):
        parse(["m", "--kv-events-config", "{"], {})


def test_events_may_be_switched_off():
    assert parse(["m", "--kv-events-config", '{"enable_kv_cache_events": false}'], {})[0].publishing is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--max-modellen", "9"], "vllm: error: unrecognized arguments: --max-modellen 9"),
        (
            ["--max_modellen=9", "--enable-frobs"],
            "vllm: error: unrecognized arguments: --max-modellen=9 --enable-frobs",
        ),
        (["-zz", "5"], "vllm: error: unrecognized arguments: -zz 5"),
        (["stray"], "vllm: error: unrecognized arguments: stray"),
        (["--compilation-confg.mode", "3"], "vllm: error: unrecognized arguments: --compilation-confg 3"),
        (["--compilation-confg.mode=3"], "vllm: error: unrecognized arguments: --compilation-confg 3"),
        (["--port", "x"], "vllm serve: error: argument --port: invalid int value: 'x'"),
        (["--dtype"], "vllm serve: error: argument --dtype: expected one argument"),
    ],
)
def test_what_vllm_would_refuse_is_refused_in_its_words(argv, words):
    """The words are those of vLLM 0.32.0, but for a part of a config that does not exist: there it prints JSON."""
    with pytest.raises(SettingsError) as refused:
        parse(["m", *argv], {})
    assert str(refused.value) == words


def test_every_argument_of_vllm_is_taken_by_each_of_its_names():
    sample = {None: ["1"], 0: [], "+": ["1", "2"], "?": []}
    ours = {"--kv-events-config": ["{}"], "--host": ["127.0.0.1"]}
    assert len(vllm_arguments()) > 300
    for first, (names, takes) in vllm_arguments().items():
        for name in names:
            parse(["m", name, *ours.get(first, sample.get(takes))], {})


def test_arguments_are_read_as_vllm_reads_them():
    told, ignored = parse(["m", "-tp", "2", "--max_model_len=512", "--no-enable-scale-out", "--max-num-se", "7"], {})
    assert (told.limits.max_model_len, told.limits.max_num_seqs, told.opens_render, ignored) == (512, 7, False, [])
    told, _ = parse(["m", "--max-model-len", "auto", "--max-num-batched-tokens=2K"], {})
    assert told.limits.max_model_len == parse(["m"], {})[0].limits.max_model_len
    assert told.limits.max_num_batched_tokens == 2048
    assert parse(["m", "--max-model-len", "1.5k"], {})[0].limits.max_model_len == 1500
    _, ignored = parse(["m", "-O3", "-O", "2", "-O=1", "--compilation-config.mode", "3", "--no-enforce-eager"], {})
    assert ignored == [*["--optimization-level"] * 3, "--compilation-config", "--no-enforce-eager"]

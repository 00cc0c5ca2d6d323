"""Arguments: vLLM's own, and what makes no sense."""

import pytest
from kvpool_sim.core.timing import ROWS
from kvpool_sim.settings import SettingsError, parse


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

"""The fitted rows against the table that they were fitted to (aiconfigurator-core 0.12.0)."""

import pytest
from kvpool_sim.core.timing import DEFAULT_ROW, ROWS, SCALE, STEP_OVERHEAD_MS, row_for

PREFILL_8K_MS = {
    "h100-llama-3.1-8b-tp1": 199.7,
    "h100-llama-3.1-8b-tp2": 122.6,
    "h100-qwen3-32b-tp2": 476.0,
    "h100-qwen3-32b-tp4": 273.6,
    "h100-llama-3.1-70b-tp4": 577,
    "a100-qwen3-32b-tp2": 1249,
    "a100-llama-3.1-70b-tp8": 832,
}
DECODE_64_AT_4K_MS = {
    "h100-llama-3.1-8b-tp1": 17.9,
    "h100-llama-3.1-8b-tp2": 9.9,
    "h100-qwen3-32b-tp2": 26.9,
    "h100-llama-3.1-70b-tp4": 24.1,
    "a100-qwen3-32b-tp2": 52.9,
}


@pytest.mark.parametrize(("name", "told_ms"), PREFILL_8K_MS.items())
def test_a_prefill_takes_what_the_profile_says(name, told_ms):
    row = ROWS[name]
    step_ms = row.step_s(row.prefill_s(8192, 0), 0, 0) * 1e3
    assert step_ms / SCALE - STEP_OVERHEAD_MS == pytest.approx(told_ms, rel=0.17)


@pytest.mark.parametrize(("name", "told_ms"), DECODE_64_AT_4K_MS.items())
def test_a_decode_step_takes_what_the_profile_says(name, told_ms):
    step_ms = ROWS[name].step_s(0.0, 64, 64 * 4096) * 1e3
    assert step_ms / SCALE - STEP_OVERHEAD_MS == pytest.approx(told_ms, rel=0.12)


def test_a_cached_prefix_makes_the_rest_cheap_but_not_free():
    row = ROWS["h100-qwen3-32b-tp2"]
    cold, warm = row.prefill_s(7200, 0), row.prefill_s(1200, 6000)
    assert row.prefill_s(1200, 0) < warm < cold / 4


def test_a_model_finds_its_own_row():
    assert row_for("Qwen/Qwen3-32B", 4).name == "h100-qwen3-32b-tp4"
    assert row_for("somebody/unknown", 2) is DEFAULT_ROW

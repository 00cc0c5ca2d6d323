"""`/metrics` beside what vLLM 0.32.0 answered after the run with 260 blocks of 32 tokens."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sim_engine import sim_engine

RECORDED = (Path(__file__).parent / "metrics_vllm_0_32_0.txt").read_text()
NO_SUCH_FINISH = {"error", "repetition"}
"""Ends that a simulated model never comes to."""


def families(text: str) -> dict:
    return {each.name: each for each in text_string_to_metric_families(text)}


async def asked(*argv: str) -> dict:
    async with sim_engine(*argv) as engine, engine.http.get(engine.url + "/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return families(await answer.text())


@pytest.mark.parametrize("name", families(RECORDED))
async def test_each_family_has_the_kind_samples_and_labels_of_the_real_one(name):
    theirs, ours = families(RECORDED)[name], (await asked())[name]
    assert (ours.type, ours.documentation) == (theirs.type, theirs.documentation)
    assert {sample.name for sample in ours.samples} == {sample.name for sample in theirs.samples}
    told = [sample.labels for sample in theirs.samples if sample.labels.get("finished_reason") not in NO_SUCH_FINISH]
    if name == "vllm:cache_config_info":
        assert set(ours.samples[0].labels) <= set(told[0])
    else:
        assert [sample.labels for sample in ours.samples] == told


async def test_the_cache_tells_its_size_as_the_real_one_does():
    ours = (await asked("--num-gpu-blocks-override", "260", "--block-size", "32"))["vllm:cache_config_info"].samples[0]
    theirs = families(RECORDED)["vllm:cache_config_info"].samples[0]
    assert ours.value == theirs.value
    for label in ("block_size", "num_gpu_blocks", "enable_prefix_caching", "engine"):
        assert ours.labels[label] == theirs.labels[label]


async def test_each_rank_counts_for_itself():
    found = await asked("--data-parallel-size", "2")
    for name in families(RECORDED):
        assert {sample.labels["engine"] for sample in found[name].samples} == {"0", "1"}

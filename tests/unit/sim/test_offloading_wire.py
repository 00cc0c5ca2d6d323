"""What an engine that offloads tells: events as vLLM 0.32's sources make them, arguments, metrics."""

import msgspec
from kvpool_sim.core.events import BlockDropped, BlockOffloaded
from kvpool_sim.publisher import payload
from kvpool_sim.settings import parse
from sim_engine import sim_engine


def offloaded_blocks(*argv: str) -> int:
    settings, _ = parse(["meta-llama/Llama-3.1-8B-Instruct", *argv], {})
    return settings.offloaded_blocks


def test_a_block_in_main_memory_is_told_by_its_hash_alone():
    """`OffloadingEventsTracker._placeholder_stored` and `_take_removed_event`, defaults left out by msgspec."""
    _, (stored, removed), _ = msgspec.msgpack.decode(payload(1.0, [BlockOffloaded(7), BlockDropped((7, 8))], 0, 16))
    assert stored == {
        "type": "BlockStored",
        "block_hashes": [7],
        "parent_block_hash": None,
        "token_ids": [],
        "block_size": 0,
        "lora_id": None,
        "medium": "CPU",
        "lora_name": None,
        "group_idx": 0,
    }
    assert removed == {"type": "BlockRemoved", "block_hashes": [7, 8], "medium": "CPU", "group_idx": 0}


def test_the_size_is_in_gibibytes_and_holds_whole_blocks():
    assert offloaded_blocks() == 0
    assert offloaded_blocks("--kv-offloading-size", "1") == 512
    assert offloaded_blocks("--kv-offloading-size=0.5", "--block-size", "32") == 128
    assert offloaded_blocks("--kv-offloading-size", "1", "--kv-offloading-backend", "lmcache") == 0


async def test_only_an_engine_that_offloads_tells_of_loads():
    for argv, told in (((), False), (("--kv-offloading-size", "1"), True)):
        async with sim_engine(*argv) as each, each.http.get(each.url + "/metrics") as answer:
            text = await answer.text()
        for name in ("external_prefix_cache_queries", "external_prefix_cache_hits", "kv_offload_load_time"):
            assert (f"vllm:{name}_total{{" in text) == told

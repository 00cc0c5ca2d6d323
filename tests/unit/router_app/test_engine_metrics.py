import asyncio
import itertools

import aiohttp
import pytest
from aiohttp import web
from eventually import eventually
from kvpool_router.engine_metrics import EngineMetrics, Reading, parse
from kvpool_router.liveness import Liveness
from kvpool_router.workers import Roster, Worker, WorkerId
from tiny_engine import TinyEngine

VLLM_0_32 = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 14305.0
vllm:prefix_cache_queries_created{engine="0",model_name="tiny"} 1.7955101699686122e+09
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 800.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="tiny"} 5.0
vllm:cache_config_info{block_size="32",engine="0",kv_cache_size_tokens="8320",num_gpu_blocks="260"} 1.0
"""


def test_a_reading_holds_what_vllm_0_32_says():
    assert parse(VLLM_0_32) == {
        0: Reading(
            running=3,
            waiting=2,
            kv_usage_percent=25.0,
            prefix_hit_tokens=800,
            prefix_query_tokens=14305,
            cache_tokens=8320,
        )
    }


def test_names_of_older_releases_are_read_and_capacity_is_blocks_times_size():
    told = parse(
        'vllm:gpu_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:gpu_prefix_cache_hits{engine="0"} 4\n'
        'vllm:gpu_prefix_cache_queries_total{engine="0"} 9\n'
        'vllm:cache_config_info{block_size="16",num_gpu_blocks="10"} 1.0\n'
    )[0]
    assert (told.kv_usage_percent, told.prefix_hit_tokens, told.prefix_query_tokens) == (50.0, 4, 9)
    assert told.cache_tokens == 160


def test_each_rank_has_its_own_reading_and_a_rank_is_0_where_none_is_named():
    told = parse('vllm:num_requests_running{engine="1"} 4.0\nvllm:num_requests_running{model_name="a\\"}b"} 6.0\n')
    assert {rank: reading.running for rank, reading in told.items()} == {1: 4, 0: 6}


@pytest.mark.parametrize(
    "line",
    [
        'vllm:num_requests_running{engine="x"} 4.0',
        'vllm:num_requests_running{engine="0"} lots',
        'vllm:num_requests_running{engine="0"} NaN',
        'vllm:num_requests_running{engine="0"} +Inf',
        "vllm:num_requests_running 4.0",
    ],
)
def test_a_line_that_does_not_parse_is_left_out(line):
    assert parse(line + "\n") in ({}, {0: Reading()})


def test_a_capacity_that_is_no_number_is_unknown():
    assert parse('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n')[0].cache_tokens is None


def worker(engine: TinyEngine, pod: str, rank: int = 0) -> Worker:
    return Worker(WorkerId(pod, rank), "uid", 0, engine.url, None, None, ready=True, draining=False, terminating=False)


async def test_engines_are_read_again_and_again_and_gone_ones_forgotten():
    counts = itertools.count(1)

    async def respond(request: web.Request, body: bytes) -> web.Response:
        count = next(counts)
        if count == 2:
            return web.Response(status=500)
        if count == 3:
            return web.Response(body=b"\xff", headers={"content-type": "text/plain; charset=utf-8"})
        return web.Response(
            text=f'vllm:num_requests_running{{engine="0"}} {count}\nvllm:num_requests_running{{engine="1"}} 90\n'
        )

    took: list[WorkerId] = []
    clock = itertools.count(100.0)
    async with TinyEngine(respond) as engine, aiohttp.ClientSession() as session:
        metrics = EngineMetrics(session, lambda: next(clock), 0.02, lambda id, _: took.append(id), Liveness(Roster()))
        ranks = tuple(worker(engine, "a", rank) for rank in (0, 1, 7))
        metrics.follow(ranks)
        await eventually(lambda: (reading := metrics.reading(ranks[0].id)) and (reading.running or 0) >= 4)
        assert metrics.reading(ranks[1].id).running == 90
        assert metrics.reading(ranks[2].id) is None
        assert metrics.reading(ranks[0].id).read_at >= 102.0
        assert took[:2] == [ranks[0].id, ranks[1].id]
        metrics.follow(ranks)
        metrics.follow(ranks[1:2])
        assert metrics.reading(ranks[0].id) is None
        metrics.follow(())
        assert metrics.reading(ranks[1].id) is None
        await metrics.close()


async def test_an_engine_that_hangs_is_passed_over_and_holds_up_no_other(caplog):
    goes_on = asyncio.Event()

    async def hang(request: web.Request, body: bytes) -> web.StreamResponse:
        await goes_on.wait()
        return web.Response(text=VLLM_0_32)

    async def well(request: web.Request, body: bytes) -> web.Response:
        return web.Response(text=VLLM_0_32)

    async with TinyEngine(hang) as hung, TinyEngine(well) as engine, aiohttp.ClientSession() as session:
        liveness = Liveness(Roster())
        metrics = EngineMetrics(session, lambda: 0.0, 0.05, lambda id, reading: None, liveness, timeout_s=0.05)
        metrics.follow((worker(hung, "a"), worker(engine, "b")))
        await eventually(lambda: metrics.reading(WorkerId("b", 0)))
        await eventually(lambda: len(hung.seen) >= 2)
        assert metrics.reading(WorkerId("a", 0)) is None
        await eventually(lambda: liveness.is_silent(hung.url))
        assert not liveness.is_silent(engine.url)
        goes_on.set()
        await eventually(lambda: metrics.reading(WorkerId("a", 0)))
        assert not liveness.is_silent(hung.url)
        assert [record.message.split(hung.url)[1][:8] for record in caplog.records] == [" does no", " answers"]
        await metrics.close()

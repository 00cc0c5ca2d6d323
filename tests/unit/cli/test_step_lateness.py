import aiohttp
import pytest
from aiohttp import web
from kvpool_cli.step_lateness import buckets_of, quantile_ms, step_lateness_p99_ms

METRICS = """# TYPE kvpool_sim_step_lateness_seconds histogram
kvpool_sim_step_lateness_seconds_bucket{le="0.001"} 90.0
kvpool_sim_step_lateness_seconds_bucket{le="0.002"} 100.0
kvpool_sim_step_lateness_seconds_bucket{le="+Inf"} 100.0
kvpool_sim_step_lateness_seconds_sum 0.1
vllm:num_requests_running{engine="0"} 3.0
"""


def test_a_quantile_lies_between_the_bounds_of_its_bucket():
    assert quantile_ms(buckets_of(METRICS), 0.99) == pytest.approx(1.9)
    assert quantile_ms(buckets_of(METRICS), 0.45) == pytest.approx(0.5)


def test_what_lies_above_the_last_bound_is_said_to_be_at_it():
    assert quantile_ms({0.001: 0.0, float("inf"): 5.0}, 0.99) == 1.0


def test_no_steps_and_no_metric_are_unknown():
    assert quantile_ms(buckets_of("nothing"), 0.99) is None
    assert quantile_ms({float("inf"): 0.0}, 0.99) is None


async def test_engines_are_summed_and_one_that_does_not_answer_is_left_out():
    async def metrics(_):
        return web.Response(text=METRICS)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    urls = [f"http://127.0.0.1:{runner.addresses[0][1]}"] * 2 + ["http://127.0.0.1:1"]
    async with aiohttp.ClientSession() as http:
        assert await step_lateness_p99_ms(http, urls) == pytest.approx(1.9)
    await runner.cleanup()
